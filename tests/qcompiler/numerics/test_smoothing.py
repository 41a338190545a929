"""Smoothing scales and the search of alpha."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qcompiler.numerics.smoothing import (
    ALPHAS,
    COLUMNS,
    LARGEST,
    SMALLEST,
    Codes,
    search_alpha,
    smoothing_scale,
)

MAGNITUDES = arrays(np.float64, 12, elements=st.floats(0, 1e6))


@given(activation=MAGNITUDES, weight=MAGNITUDES, alpha=st.floats(0, 1))
def test_scales_are_finite_positive_and_bounded(
    activation: np.ndarray, weight: np.ndarray, alpha: float
) -> None:
    scale = smoothing_scale(activation, weight, alpha)
    assert np.all(np.isfinite(scale))
    assert np.all((scale >= SMALLEST) & (scale <= LARGEST))
    assert np.all(scale[activation == 0] == 1)


def test_the_scale_is_the_one_of_the_paper() -> None:
    x, w = np.array([4.0, 0.5, 9.0]), np.array([0.25, 2.0, 1.0])
    np.testing.assert_allclose(smoothing_scale(x, w, 0.5), np.sqrt(x / w))
    np.testing.assert_allclose(smoothing_scale(x, w, 1.0), x)
    np.testing.assert_allclose(smoothing_scale(x, w, 0.0), 1 / w)


@given(
    x=arrays(np.float64, 12, elements=st.floats(0.1, 10)),
    w=arrays(np.float64, 12, elements=st.floats(0.1, 10)),
    alpha=st.floats(0, 1),
)
def test_what_was_smoothed_needs_no_more_smoothing(x: np.ndarray, w: np.ndarray, alpha: float) -> None:
    scale = smoothing_scale(x, w, alpha)
    # x / s and w s give (x / s)^alpha / (w s)^(1 - alpha) = s / s, up to float64 rounding.
    np.testing.assert_allclose(smoothing_scale(x / scale, w * scale, alpha), 1.0, rtol=1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), symmetric=st.booleans())
def test_the_search_never_makes_the_sampled_error_larger(seed: int, symmetric: bool) -> None:
    generator = np.random.default_rng(seed)
    rows = (generator.normal(0, 1, (64, 24)) * np.exp(generator.normal(0, 1.5, 24))).astype(np.float32)
    weights = [generator.normal(0, 1, (24, width)).astype(np.float32) for width in (8, COLUMNS + 40)]
    low, high = rows.min(axis=0).astype(np.float64), rows.max(axis=0).astype(np.float64)
    codes = Codes((-128, 127), symmetric) if symmetric else Codes()
    alpha, before, after = search_alpha(rows, low, high, weights, codes)
    assert after <= before
    assert (alpha is None) == (after == before)
    assert alpha is None or min(ALPHAS) <= alpha <= max(ALPHAS)


def test_even_channels_gain_nothing_worth_an_outlier() -> None:
    generator = np.random.default_rng(0)
    rows = generator.uniform(-1, 1, (256, 32)).astype(np.float32)
    weight = generator.normal(0, 1, (32, 16)).astype(np.float32)
    outlier = rows * np.where(np.arange(32) == 5, 60, 1).astype(np.float32)

    def gain(sample: np.ndarray) -> float:
        low, high = sample.min(axis=0).astype(np.float64), sample.max(axis=0).astype(np.float64)
        _, before, after = search_alpha(sample, low, high, [weight], Codes())
        return before / after

    assert gain(rows) < 1.5
    assert gain(outlier) > 3
