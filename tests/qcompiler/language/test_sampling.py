"""The distribution that tokens are drawn from, against a slow and obvious one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import OptionError
from qcompiler.language.sampling import Sampling, probabilities

LOGITS = st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12)


def slow_probabilities(logits: list[float], sampling: Sampling) -> list[float]:
    """One token after the other, from the likeliest."""
    weights = [math.exp((value - max(logits)) / sampling.temperature) for value in logits]
    ranked = sorted(range(len(logits)), key=lambda token: (-logits[token], token))
    kept = ranked[: sampling.top_k]
    total = sum(weights[token] for token in kept)
    if sampling.top_p is not None:
        nucleus, reached = [], 0.0
        for token in kept:
            if reached < sampling.top_p:
                nucleus.append(token)
            reached += weights[token] / total
        kept = nucleus
    total = sum(weights[token] for token in kept)
    return [weights[token] / total if token in kept else 0.0 for token in range(len(logits))]


@given(LOGITS, st.floats(0.2, 3), st.one_of(st.none(), st.integers(1, 15)), st.sampled_from([None, 0.3, 0.9]))
def test_probabilities_equal_the_slow_ones(
    logits: list[float], temperature: float, top_k: int | None, top_p: float | None
) -> None:
    sampling = Sampling(temperature, top_k, top_p)
    found = probabilities(np.array(logits), sampling)
    expected = slow_probabilities(logits, sampling)
    if top_p is None or np.array_equal(found > 0, np.array(expected) > 0):  # else p is met within a rounding
        np.testing.assert_allclose(found, expected, atol=1e-12)  # float64 sums of up to 12 terms
    assert found.sum() == pytest.approx(1)


def test_greedy_takes_the_largest() -> None:
    logits = np.array([0.1, 3.0, -2.0], np.float16)
    assert Sampling().choose(logits, np.random.default_rng(0)) == 1


def test_draws_follow_the_distribution_and_the_seed() -> None:
    sampling = Sampling(temperature=0.7, top_k=3)
    logits = np.array([1.0, 0.5, 0.0, -0.5])
    draws = [
        sampling.choose(logits, generator) for generator in [np.random.default_rng(5)] for _ in range(2000)
    ]
    again = [
        sampling.choose(logits, generator) for generator in [np.random.default_rng(5)] for _ in range(2000)
    ]
    assert draws == again
    shares = np.bincount(draws, minlength=4) / 2000
    # the standard deviation of a share is at most sqrt(1/4/2000) = 0.011; four of them
    np.testing.assert_allclose(shares, probabilities(logits, sampling), atol=0.045)
    assert shares[3] == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((-1.0, None, None), "--temperature"),
        ((math.nan, None, None), "--temperature"),
        ((1.0, 0, None), "--top-k"),
        ((1.0, None, 1.5), "--top-p"),
        ((1.0, None, 0.0), "--top-p"),
        ((0.0, 5, None), "no effect on greedy"),
        ((0.0, None, 0.5), "no effect on greedy"),
    ],
)
def test_impossible_options_are_refused(arguments: tuple[float, int | None, float | None], told: str) -> None:
    with pytest.raises(OptionError, match=told):
        Sampling(*arguments)
