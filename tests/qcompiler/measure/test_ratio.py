from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.measure.ratio import median_interval_rank, paired_ratio


def test_ratio_of_constant_times_is_exact() -> None:
    ratio = paired_ratio([4.0] * 15, [2.0] * 15)
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 2.0)
    assert ratio.is_faster
    assert not ratio.is_slower


def test_pairing_cancels_what_both_sides_suffer() -> None:
    """A machine that is up to ten times slower in some rounds does not touch the ratio."""
    load = np.random.default_rng(0).uniform(1, 10, size=21)
    ratio = paired_ratio(list(3.0 * load), list(2.0 * load))
    assert ratio.low == pytest.approx(1.5)
    assert ratio.high == pytest.approx(1.5)


def test_a_few_disturbed_rounds_do_not_move_the_statement() -> None:
    variant = [1.0] * 15
    variant[3] = variant[9] = 100.0
    assert paired_ratio([2.0] * 15, variant).is_faster


@pytest.mark.parametrize("count", range(1, 12))
def test_coverage_is_that_of_all_sign_patterns(count: int) -> None:
    """Enumerates which samples lie below the median: each of the 2^n patterns is equally likely."""
    rank, coverage = median_interval_rank(count, 0.9)
    inside = sum(rank < sum(pattern) < count - rank for pattern in itertools.product((0, 1), repeat=count))
    assert coverage == pytest.approx(inside / 2**count)
    if rank > 0:
        assert coverage >= 0.9


def test_interval_covers_the_median_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    ratios = random.lognormal(mean=0.3, sigma=0.5, size=(2000, 15))
    intervals = [paired_ratio(list(row), [1.0] * 15) for row in ratios]
    covered = np.mean([one.low <= np.exp(0.3) <= one.high for one in intervals])
    # Standard error of a share of 0.965 over 2000 trials is 0.004: four of them.
    assert covered == pytest.approx(intervals[0].confidence, abs=0.016)


def test_too_few_rounds_say_so() -> None:
    ratio = paired_ratio([2.0, 2.1, 1.9], [1.0, 1.0, 1.0])
    assert (ratio.low, ratio.high) == (1.9, 2.1)
    assert ratio.confidence == pytest.approx(0.75)


@given(st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=40))
def test_ends_enclose_the_median_and_swapping_inverts(pairs: list[tuple[float, float]]) -> None:
    first, second = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    forward, backward = paired_ratio(first, second), paired_ratio(second, first)
    assert forward.low <= forward.median <= forward.high
    # Two divisions, each rounded once.
    assert forward.low == pytest.approx(1 / backward.high, rel=1e-12)


@pytest.mark.parametrize(
    ("baseline", "variant"), [([], []), ([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([1.0], [float("nan")])]
)
def test_refuses_what_is_no_series_of_times(baseline: list[float], variant: list[float]) -> None:
    with pytest.raises(ValueError, match=r"rounds|positive"):
        paired_ratio(baseline, variant)
