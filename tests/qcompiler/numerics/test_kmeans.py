"""Codebooks of a column: against exact clustering by dynamic programming, and against uniform rounding."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompiler.numerics.kmeans import first_above, fit_tables, looked_up, nearest_codes

Array = npt.NDArray[np.float32]
SINGLE = st.floats(-100, 100, width=32)


def error(matrix: Array, table: Array, weights: Array | None = None) -> npt.NDArray[np.float64]:
    """Of every column, weighted."""
    off = (matrix - looked_up(nearest_codes(matrix, table), table)).astype(np.float64)
    weight = np.ones(len(matrix)) if weights is None else weights.astype(np.float64)
    return np.asarray((weight[:, np.newaxis] * np.square(off)).sum(0))


def least_error(column: Array, weights: Array, entries: int) -> float:
    """By dynamic programming over all ways to part the sorted column."""
    order = np.argsort(column)
    x, w = column[order].astype(np.float64), weights[order].astype(np.float64)
    cost = np.full((len(x) + 1, len(x) + 1), np.inf)
    for first in range(len(x)):
        for last in range(first + 1, len(x) + 1):
            mine, part = w[first:last], x[first:last]
            mean = (mine * part).sum() / mine.sum()
            cost[first, last] = (mine * np.square(part - mean)).sum()
    best = cost[0]
    for _ in range(entries - 1):
        best = np.minimum((best[:, np.newaxis] + cost).min(0), best)
    return float(best[-1])


@pytest.mark.parametrize("entries", [8, 16])
@pytest.mark.parametrize("spread", ["standard_normal", "standard_cauchy"])
def test_is_close_to_the_exact_optimum(spread: str, entries: int) -> None:
    random = np.random.default_rng(0)
    matrix = getattr(random, spread)((96, 6)).astype(np.float32)
    weights = random.exponential(size=96).astype(np.float32)
    found = error(matrix, fit_tables(matrix, entries, weights), weights)
    least = [least_error(column, weights, entries) for column in matrix.T]
    # A local optimum: six weights or twelve a cluster leave many of them; single columns are up to 2 times the least.
    assert np.all(found >= np.multiply(least, 1 - 1e-4))
    assert np.mean(found / least) < 1.35


@given(
    hnp.arrays(np.float32, st.tuples(st.integers(1, 40), st.integers(1, 3)), elements=SINGLE),
    st.integers(0, 9),
)
@settings(max_examples=60, deadline=None)
def test_is_never_worse_than_evenly_spaced_values(matrix: Array, seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(0.1, 10, len(matrix)).astype(np.float32)
    even = np.linspace(matrix.min(0), matrix.max(0), 8).astype(np.float32)
    mine = error(matrix, fit_tables(matrix, 8, weights), weights)
    # Values are rounded to float32 at the end: half a unit in the last place of 100, squared, for each weight.
    assert np.all(mine <= error(matrix, even, weights) + weights.sum() * (4e-6**2 + 1e-6 * np.sqrt(mine)))


@given(st.integers(1, 16), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_few_different_values_are_kept_exactly(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.standard_normal((count, 5)).astype(np.float32)
    matrix = looked_up(random.integers(0, count, (70, 5)).astype(np.uint8), np.sort(values, axis=0))
    table = fit_tables(matrix, 16)
    assert np.array_equal(looked_up(nearest_codes(matrix, table), table), matrix)


def test_what_was_fitted_once_stays() -> None:
    matrix = np.random.default_rng(0).standard_normal((200, 9)).astype(np.float32)
    table = fit_tables(matrix, 16)
    once = looked_up(nearest_codes(matrix, table), table)
    again = fit_tables(once, 16)
    assert np.array_equal(looked_up(nearest_codes(once, again), again), once)


def test_weights_move_values_to_where_they_count() -> None:
    random = np.random.default_rng(0)
    matrix = random.standard_normal((256, 4)).astype(np.float32)
    weights = np.where(matrix[:, 0] > 1, 100, 1).astype(np.float32)
    heavy, plain = fit_tables(matrix[:, :1], 8, weights), fit_tables(matrix[:, :1], 8)
    assert (heavy > 1).sum() > (plain > 1).sum()
    assert error(matrix[:, :1], heavy, weights) < 0.5 * error(matrix[:, :1], plain, weights)


@pytest.mark.parametrize("weights", [np.zeros(64, np.float32), np.eye(64, dtype=np.float32)[3]])
def test_rows_that_are_never_used_do_no_harm(weights: Array) -> None:
    matrix = np.random.default_rng(0).standard_normal((64, 3)).astype(np.float32)
    table = fit_tables(matrix, 8, weights)
    assert np.isfinite(table).all()
    assert np.all(np.diff(table, axis=0) >= 0)


def test_columns_do_not_depend_on_each_other() -> None:
    """Blocks of columns are fitted apart, and threads take them as they come."""
    matrix = np.random.default_rng(0).standard_normal((5000, 120)).astype(np.float32)
    whole = fit_tables(matrix, 4)
    assert np.array_equal(whole[:, 60:70], fit_tables(matrix[:, 60:70], 4))


@given(
    hnp.arrays(np.float64, st.tuples(st.integers(1, 9), st.just(2)), elements=st.integers(0, 5).map(float)),
    hnp.arrays(np.float64, st.tuples(st.integers(1, 4), st.just(2)), elements=st.integers(-1, 6).map(float)),
)
@settings(deadline=None)
def test_search_in_columns_is_numpy_s(
    values: npt.NDArray[np.float64], bounds: npt.NDArray[np.float64]
) -> None:
    rising = np.sort(values, axis=0)
    expected = [np.searchsorted(rising[:, n], bounds[:, n], "right") for n in range(2)]
    assert np.array_equal(first_above(rising, bounds), np.transpose(expected))
