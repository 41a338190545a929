"""Values of one dimension in clusters: few values a column that stand for all of its weights.

    min over table [E, N], codes [K, N] of   sum_k h[k] (W[k, n] - table[codes[k, n], n])^2   for every column n

Lloyd's algorithm (weighted k-means, SqueezeLLM, arXiv:2306.07629) on sorted columns: a cluster is a range of them, so a
round needs only E - 1 binary searches a column and sums that were added up once.  It runs from three starts, each
column keeps the best, and then swaps clusters: two that cost little as one for a half of one that gains much by it.

| start | values |
|---|---|
| uniform | evenly spaced between the extremes: the result is never worse than rounding to those |
| quantiles | each stands for an equal share of h |
| companded | spaced as the cube root of the density, which is best for many values (Panter and Dite, 1951) |

A column of no more than E different values is kept exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.formats.blocks import for_each

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

SHORT, ROUNDS = 5, 60
"""Of Lloyd's algorithm at most, in between and at the end: the error hardly falls after 30."""
SWAPS = 12
"""Times at most that two clusters become one and another is parted."""
LEAST_WEIGHT = 1e-6
"""Share of the mean weight that every row has: values of rows that are never used are kept, too, if that is free."""
WINDOWS = 64
"""Parts of a column in which the density is estimated."""

_BLOCK = 1 << 18
"""Weights that are sorted at a time."""


def fit_tables(matrix: Float32, entries: int, importance: Float32 | None = None) -> Float32:
    """Values of each column, in rising order: float32 ``[entries, N]``.

    Args:
        matrix: ``[K, N]``, finite.
        entries: E, 2 to 256.
        importance: ``[K]``, not negative, h; None for ones.
    """
    rows, columns = matrix.shape
    table = np.empty((entries, columns), np.float32)
    weights = _weights(rows, importance)
    step = max(16, _BLOCK // rows)

    def fill(first: int) -> None:
        part = slice(first, first + step)
        table[:, part] = _fit(_Columns(matrix[:, part], weights), entries)

    for_each(range(0, columns, step), fill)
    return table


def nearest_codes(matrix: Float32, table: Float32) -> Codes:
    """The entry of ``table [E, N]``, in rising order, that is nearest to each value of ``matrix [K, N]``."""
    middles = (table[1:] + table[:-1]) / 2
    codes = np.zeros(matrix.shape, np.uint8)
    for middle in middles:
        codes += matrix > middle
    return codes


def looked_up(codes: Codes, table: Float32) -> Float32:
    """``W[k, n] = table[codes[k, n], n]``."""
    return np.asarray(np.take_along_axis(table, codes.astype(np.int64), 0))


def _weights(rows: int, importance: Float32 | None) -> Float64:
    if importance is None or not importance.any():
        return np.ones(rows)
    relative = importance.astype(np.float64) / importance.mean(dtype=np.float64)
    return np.asarray(np.maximum(relative, LEAST_WEIGHT))


class _Columns:
    """Sorted columns ``[K, n]`` and running sums ``[K + 1, n]`` of their weights, once and times the values."""

    def __init__(self, matrix: Float32, weights: Float64) -> None:
        order = np.argsort(matrix, axis=0, kind="stable")
        self.values: Float64 = np.take_along_axis(matrix, order, 0).astype(np.float64)
        sorted_weights = weights[order]
        self.weight = _running(sorted_weights)
        self.moment = _running(sorted_weights * self.values)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def sums(self, ends: Places) -> tuple[Float64, Float64]:
        """Weight and moment of the ranges between ``ends [E + 1, n]``: ``[E, n]`` each."""
        return self.sums_between(ends[:-1], ends[1:])

    def sums_between(self, first: Places, last: Places) -> tuple[Float64, Float64]:
        """Weight and moment of half-open ranges."""
        weight, moment = (
            np.take_along_axis(sums, last, 0) - np.take_along_axis(sums, first, 0)
            for sums in (self.weight, self.moment)
        )
        return weight, moment

    def ends(self, table: Float64) -> Places:
        """Where the range of each value of ``table [E, n]`` begins and ends: ``[E + 1, n]``."""
        rows, columns = self.shape
        inner = first_above(self.values, (table[1:] + table[:-1]) / 2)
        low, high = np.zeros((1, columns), np.int64), np.full((1, columns), rows)
        return np.concatenate([low, inner, high])


def _running(array: Float64) -> Float64:
    sums = np.zeros((len(array) + 1, *array.shape[1:]))
    np.cumsum(array, axis=0, out=sums[1:])
    return sums


def first_above(rising: Float64, bounds: Float64) -> Places:
    """Index of the first value of each rising column ``[K, n]`` above each of its ``bounds [B, n]``; K for none."""
    rows = len(rising)
    low, high = np.zeros(bounds.shape, np.int64), np.full(bounds.shape, rows)
    for _ in range(int(rows).bit_length()):
        middle = (low + high) // 2
        found = np.take_along_axis(rising, np.minimum(middle, rows - 1), 0)
        right = (found <= bounds) & (middle < high)
        low, high = np.where(right, middle + 1, low), np.where(right, high, middle)
    return low


def _fit(columns: _Columns, entries: int) -> Float32:
    starts = (_uniform(columns, entries), _quantiles(columns, entries), _companded(columns, entries))
    best, gained = _lloyd(columns, starts[0], SHORT)
    for start in starts[1:]:
        best, gained = _better(best, gained, *_lloyd(columns, start, SHORT))
    for _ in range(SWAPS if entries > 2 else 0):
        best, gained = _better(best, gained, *_lloyd(columns, _swapped(columns, best), SHORT))
    best, gained = _better(best, gained, *_lloyd(columns, best, ROUNDS))
    return _exact_where_possible(columns, best).astype(np.float32)


def _better(best: Float64, gained: Float64, table: Float64, gain: Float64) -> tuple[Float64, Float64]:
    better = gain > gained
    return np.where(better, table, best), np.where(better, gain, gained)


def _lloyd(columns: _Columns, table: Float64, rounds: int) -> tuple[Float64, Float64]:
    """The table after some rounds, and by how much it lowers each column's error below that of zeros."""
    ends = columns.ends(table)
    for _ in range(rounds):
        weight, moment = columns.sums(ends)
        table = np.sort(_means(weight, moment, table), axis=0)
        moved = columns.ends(table)
        if np.array_equal(moved, ends):
            break
        ends = moved
    weight, moment = columns.sums(ends)
    return table, (2 * moment * table - weight * np.square(table)).sum(0)


def _swapped(columns: _Columns, table: Float64) -> Float64:
    """In each column the two neighbours that cost least as one become one, and what gains most is parted."""
    ends, each = columns.ends(table), np.arange(columns.shape[1])
    weight, moment = columns.sums(ends)
    merged = _means(weight[1:] + weight[:-1], moment[1:] + moment[:-1], table[1:])
    costs = _energy(weight, moment)
    cost = costs[1:] + costs[:-1] - _energy(weight[1:] + weight[:-1], moment[1:] + moment[:-1])
    first = cost.argmin(0)
    middle = np.clip(first_above(columns.values, _means(weight, moment, table)), ends[:-1], ends[1:])
    halves = [columns.sums_between(*pair) for pair in ((ends[:-1], middle), (middle, ends[1:]))]
    gain = sum(_energy(*half) for half in halves) - costs
    gain[first, each] = gain[first + 1, each] = -np.inf
    parted = gain.argmax(0)
    changed, left, right = table.copy(), *(_means(*half, table) for half in halves)
    changed[first, each] = merged[first, each]
    changed[first + 1, each], changed[parted, each] = left[parted, each], right[parted, each]
    return np.where(gain[parted, each] > cost[first, each], np.sort(changed, axis=0), table)


def _energy(weight: Float64, moment: Float64) -> Float64:
    """By how much the mean of a cluster lowers its error below that of zero."""
    return np.asarray(np.square(moment) / np.where(weight > 0, weight, 1))


def _means(weight: Float64, moment: Float64, otherwise: Float64) -> Float64:
    return np.where(weight > 0, moment / np.where(weight > 0, weight, 1), otherwise)


def _uniform(columns: _Columns, entries: int) -> Float64:
    return np.asarray(np.linspace(columns.values[0], columns.values[-1], entries))


def _quantiles(columns: _Columns, entries: int) -> Float64:
    return _shares(columns.values, columns.weight[1:], entries)


def _companded(columns: _Columns, entries: int) -> Float64:
    """Quantiles of the cube root of the density, times lengths: of weight^(1/3) length^(2/3)."""
    rows = columns.shape[0]
    places = np.unique(np.linspace(0, rows, min(WINDOWS, rows) + 1).astype(np.int64))
    edges = columns.values[np.minimum(places, rows - 1)]
    mass = np.cbrt(np.diff(columns.weight[places], axis=0)) * np.cbrt(np.square(np.diff(edges, axis=0)))
    running = _running(mass)
    wanted = (np.arange(entries)[:, np.newaxis] + 0.5) / entries * running[-1]
    index = np.clip(first_above(running, wanted) - 1, 0, len(mass) - 1)
    begin, share = (np.take_along_axis(array, index, 0) for array in (running, mass))
    part = np.where(share > 0, (wanted - begin) / np.where(share > 0, share, 1), 0.0)
    low, high = (np.take_along_axis(edges, at, 0) for at in (index, index + 1))
    return np.asarray(low + part * (high - low))


def _shares(values: Float64, running: Float64, entries: int) -> Float64:
    wanted = (np.arange(entries)[:, np.newaxis] + 0.5) / entries * running[-1]
    index = np.minimum(first_above(running, wanted), len(values) - 1)
    return np.asarray(np.take_along_axis(values, index, 0))


def _exact_where_possible(columns: _Columns, table: Float64) -> Float64:
    """The values themselves, the last of them repeated, in columns that have no more of them than the table."""
    entries = len(table)
    rank: Any = np.zeros(columns.shape, np.int64)
    np.cumsum(np.diff(columns.values, axis=0) > 0, axis=0, out=rank[1:])
    few = np.flatnonzero(rank[-1] < entries)
    if few.size:
        exact = np.repeat(columns.values[-1:, few], entries, axis=0)
        exact[rank[:, few], np.arange(few.size)] = columns.values[:, few]
        table[:, few] = exact
    return table
