"""Clipping ranges from histograms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.numerics.histogram import BINS, Histogram, entropy_range, mse_range, percentile_range


def histogram_of(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Histogram:
    counts, edges = np.histogram(values, bins=BINS)
    return Histogram(counts.astype(np.int64), float(edges[0]), float(edges[-1]))


def error_of(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]], low: float, high: float) -> float:
    """Squared error of 256 levels over a range: the slow, obvious reference."""
    step = (high - low) / 255
    codes = np.clip(np.rint(values / step) + np.rint(-low / step), 0, 255)
    return float(np.square((codes - np.rint(-low / step)) * step - values).sum())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["normal", "laplace", "relu", "uniform"]))
def test_every_range_lies_inside_what_was_seen_and_holds_zero(seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    values = {
        "normal": generator.normal(0.3, 1, 4000),
        "laplace": generator.laplace(0, 1, 4000),
        "relu": np.maximum(generator.normal(0, 1, 4000), 0),
        "uniform": generator.uniform(1, 2, 4000),
    }[kind]
    histogram = histogram_of(values)
    for low, high in (
        mse_range(histogram, 256),
        entropy_range(histogram, 256),
        percentile_range(histogram, 99.9),
    ):
        assert min(values.min(), 0) - 1e-9 <= low <= 0 <= high <= max(values.max(), 0) + 1e-9


def test_mse_beats_the_extremes_where_there_is_an_outlier() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 50_000), [8.0])
    low, high = mse_range(histogram_of(values), 256)
    assert error_of(values, low, high) < error_of(values, values.min(), values.max())


def test_mse_keeps_a_uniform_distribution_whole() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 100_000)
    low, high = mse_range(histogram_of(values), 256)
    # One grid step of the search is 2 %.
    assert (low, high) == pytest.approx((-1, 1), abs=0.021)


def test_percentile_cuts_both_tails_alike() -> None:
    values = np.linspace(-1, 1, 200_001)
    low, high = percentile_range(histogram_of(values), 98.0)
    # 1 % of the elements on each side, found to the width of a bin (2 / 2048).
    assert (low, high) == pytest.approx((-0.98, 0.98), abs=2 / BINS)


def test_entropy_clips_a_lone_outlier() -> None:
    values = np.append(np.random.default_rng(0).normal(0, 1, 100_000), [40.0])
    _, high = entropy_range(histogram_of(values), 256)
    assert high < 20


def test_symmetric_ranges_are_symmetric() -> None:
    histogram = histogram_of(np.random.default_rng(0).normal(1, 1, 5000))
    for low, high in (
        mse_range(histogram, 256, symmetric=True),
        entropy_range(histogram, 256, symmetric=True),
        percentile_range(histogram, 99, symmetric=True),
    ):
        assert low == -high
