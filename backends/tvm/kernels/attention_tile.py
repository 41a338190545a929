"""Attention of a few rows of queries over all keys that they see: scores, softmax, weighted sum of values.

Rows of one tile belong to one head of keys.  Scores of a tile are held together, so the softmax is exact and takes
one pass for the largest and one for the sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.attention_cache import Store
from qcompiler.backends.tvm.kernels.functions import exp_below_zero, tanh
from qcompiler.backends.tvm.kernels.transpose import row_sums
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    Register,
    T,
    across,
    let,
    load,
    load_part,
    splat,
    store,
)

LOWEST = -3.4028234663852886e38


@dataclass(frozen=True)
class Registers:
    """How many rows and vectors of 16 are computed together."""

    rows: int
    vectors: int


REGISTERS = {
    Variant.PLAIN: Registers(2, 1),
    Variant.AVX2: Registers(6, 1),
    Variant.AVX_VNNI: Registers(6, 1),
    Variant.AVX512_VNNI: Registers(6, 4),
}

Limits = Callable[[Expr], tuple[Expr, Expr]]
"""From a row's number to the first key that it sees and the one behind its last."""


class ChangeScores(Protocol):
    """Changes the scores of one row."""

    def __call__(self, value: Expr, key: Expr, *, whole: bool) -> Expr:
        """From scores of 16 neighbouring keys to scores; not ``whole``: some of the keys may not exist."""


OpenRow = Callable[[Expr], ChangeScores]
"""From a row's number to what changes its scores."""


@dataclass(frozen=True)
class Tile:
    """Some rows of queries of one head of keys.

    Attributes:
        head: batch and head of keys.
        first: the first row.
        rows: how many.
        queries: float32 ``[B, kv_heads, R, size]``, scaled.
        scores: float32 ``[rows, T rounded up to 64]``, scratch.
        sums: float32 ``[rows]``, scratch.
        limits: of every row.
        vectors: of 16 that are computed together.
    """

    head: list[Expr]
    first: Expr
    rows: int
    queries: Buffer
    scores: Buffer
    sums: Buffer
    limits: Limits
    vectors: int

    def span(self) -> tuple[Expr, Expr]:
        """The keys that any row sees; rows see further the later they are."""
        return let(self.limits(self.first)[0]), let(self.limits(self.first + (self.rows - 1))[1])

    def score_columns(self, keys: Buffer, size: int) -> None:
        """Scores from transposed keys ``[B, kv_heads, T/16, size, 16]``."""
        low, high = self.span()
        width = LANES * self.vectors
        start = let(T.floordiv(low, width))
        with T.serial(0, T.floordiv(high + width - 1, width) - start) as index:
            block = let((start + index) * self.vectors)
            sums = self._registers(self.vectors)
            with T.serial(0, size) as column:
                vectors = [let(load(keys, [*self.head, block + j, column, 0])) for j in range(self.vectors)]
                self._add(sums, vectors, partial(self._query, column))
            for i, row in enumerate(sums):
                for j, register in enumerate(row):
                    store(self.scores, [i, (block + j) * LANES], register.value)

    def score_rows(self, keys: Store, total: Expr) -> None:
        """Scores from keys as they are stored: better for few rows."""
        low, high = self.span()
        start = let(T.floordiv(low, LANES))
        queries = [
            [load_part(self.queries, [*self.head, self.first + i, T.int32(c)], v) for c, v in keys.columns()]
            for i in range(self.rows)
        ]
        products = T.alloc_buffer((LANES, LANES), "float32")
        with T.serial(0, T.floordiv(high + LANES - 1, LANES) - start) as index:
            block = let((start + index) * LANES)
            for i in range(self.rows):
                with T.serial(0, LANES) as lane:
                    row = let(T.min(block + lane, total - 1))
                    store(products, [lane, 0], _product(queries[i], keys, self.head, row))
                sums = row_sums([let(load(products, [lane, 0])) for lane in range(LANES)])
                store(self.scores, [i, block], sums)

    def softmax(self, change: OpenRow | None) -> None:
        """Turn scores into e^(score - largest), and sum them; keys that a row does not see get 0.

        Args:
            change: of scores: soft cap and mask.
        """
        low, high = self.span()
        start = let(T.floordiv(low, LANES))
        whole = let(T.floordiv(high, LANES) - start)
        count = let(T.floordiv(high + LANES - 1, LANES) - start)
        with T.serial(0, self.rows) as row:
            limits = [splat(let(limit)) for limit in self.limits(self.first + row)]
            opened = change(let(self.first + row)) if change is not None else None
            largest, total = Register("float32"), Register("float32")
            largest.clear(T.float32(LOWEST))
            total.clear(T.float32(0.0))
            with T.serial(0, whole) as index:
                self._see(row, let((start + index) * LANES), limits, largest, _of(opened, whole=True))
            with T.If(whole < count), T.Then():
                self._see(row, let((start + whole) * LANES), limits, largest, _of(opened, whole=False))
            most = let(splat(across(largest.value, T.max)))
            with T.serial(0, count) as index:
                place = [row, let((start + index) * LANES)]
                value = exp_below_zero(load(self.scores, place) - most)
                store(self.scores, place, value)
                total.set(total.value + value)
            T.buffer_store(self.sums, across(total.value, lambda a, b: a + b), [row])

    def _see(
        self,
        row: Expr,
        key: Expr,
        limits: list[Expr],
        largest: Register,
        change: Callable[[Expr, Expr], Expr] | None,
    ) -> None:
        """Change a vector of scores, hide what the row does not see, and find the largest."""
        value = let(load(self.scores, [row, key]))
        if change is not None:
            value = let(change(value, key))
        keys, hidden = let(T.ramp(key, 1, LANES)), splat(T.float32(-math.inf))
        seen = T.Select(keys >= limits[0], T.Select(keys < limits[1], value, hidden), hidden)
        store(self.scores, [row, key], let(seen))
        largest.set(T.max(largest.value, load(self.scores, [row, key])))

    def weigh(self, values: Store, put: Callable[[int, int, Expr, int], None]) -> None:
        """Hand the mean of the values to ``put``: row of the tile, first column, vector, valid lanes."""
        low, high = self.span()
        columns = values.columns()
        inverse = [
            let(T.Select(self.sums[i] > T.float32(0.0), T.float32(1.0) / self.sums[i], T.float32(0.0)))
            for i in range(self.rows)
        ]
        for start in range(0, len(columns), self.vectors):
            part = columns[start : start + self.vectors]
            sums = self._registers(len(part))
            with T.serial(0, high - low) as index:
                key = let(low + index)
                vectors = [values.read(self.head, key, T.int32(first), valid) for first, valid in part]
                self._add(sums, vectors, partial(self._weight, key))
            for i, row in enumerate(sums):
                for (first, valid), register in zip(part, row, strict=True):
                    put(i, first, register.value * splat(inverse[i]), valid)

    def _query(self, column: Expr, row: int) -> Expr:
        return self.queries[(*self.head, self.first + row, column)]

    def _weight(self, key: Expr, row: int) -> Expr:
        return self.scores[row, key]

    def _registers(self, vectors: int) -> list[list[Register]]:
        registers = [[Register("float32") for _ in range(vectors)] for _ in range(self.rows)]
        for row in registers:
            for register in row:
                register.clear(T.float32(0.0))
        return registers

    def _add(self, sums: list[list[Register]], vectors: list[Expr], factor: Callable[[int], Expr]) -> None:
        for i, row in enumerate(sums):
            weight = let(splat(factor(i)))
            for vector, register in zip(vectors, row, strict=True):
                register.set(register.value + weight * vector)


def soft_cap(value: Expr, cap: float) -> Expr:
    """``cap * tanh(value / cap)``."""
    return splat(T.float32(cap)) * tanh(value * splat(T.float32(1.0 / cap)))


def _product(query: list[Expr], keys: Store, head: list[Expr], place: Expr) -> Expr:
    total = None
    for (first, valid), vector in zip(keys.columns(), query, strict=True):
        product = vector * keys.read(head, place, T.int32(first), valid)
        total = let(product if total is None else total + product)
    return total


def _of(change: ChangeScores | None, *, whole: bool) -> Callable[[Expr, Expr], Expr] | None:
    return None if change is None else partial(change, whole=whole)
