"""Blocks of columns times a Hadamard matrix, by butterflies (Walsh-Hadamard transform).

    y[m, b * n + i] = sum_j H[i, j] * x[m, b * n + j] / sqrt(n),  H[i, j] = (-1)^(number of ones in i & j)

H is Sylvester's matrix, whose rows are in natural order; n is a power of two.  It is its own inverse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.row_loop import each_row
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    PrimFunc,
    T,
    build,
    let,
    load,
    parameter,
    rows_parameter,
    splat,
    store,
)


@dataclass(frozen=True)
class Hadamard:
    """One kernel; the same for every variant.

    Attributes:
        columns: N, a multiple of ``size`` and of 16.
        size: n, a power of two, at least 2.

    Parameters of the PrimFunc, in this order: ``x`` float32 ``[M, N]``; ``y`` float32 ``[M, N]``.
    """

    columns: int
    size: int
    variant: Variant


def hadamard(spec: Hadamard, name: str = "hadamard") -> PrimFunc:
    """The kernel.

    Raises:
        ValueError: a size that is no power of two, or columns that are no multiple of it and of 16.
    """
    if spec.size < 2 or spec.size & (spec.size - 1):
        raise ValueError(f"a Hadamard matrix of {spec.size} rows: expected a power of two")
    if spec.columns % spec.size or spec.columns % LANES:
        raise ValueError(f"{spec.columns} columns are no multiple of {spec.size} and of {LANES}")
    return build(name, lambda: _body(spec))


def _body(spec: Hadamard) -> None:
    rows = rows_parameter()
    x, y = (parameter(name, (rows, spec.columns), "float32") for name in ("x", "y"))

    def transform(row: Expr) -> None:
        with T.serial(0, spec.columns // LANES) as index:
            place = [row, index * LANES]
            value = load(x, place) * splat(T.float32(1.0 / math.sqrt(spec.size)))
            store(y, place, _within(value, min(spec.size, LANES)))
        step = 1
        while step * LANES < spec.size:
            _between(y, row, spec.columns // LANES, step)
            step *= 2

    each_row(rows, T.int32(spec.columns), transform)


def _within(value: Expr, size: int) -> Expr:
    """Butterflies between lanes."""
    step = 1
    while step < size:
        whole = let(value)
        other = T.Shuffle([whole], [lane ^ step for lane in range(LANES)])
        signs = T.Shuffle(
            [splat(T.float32(1.0)), splat(T.float32(-1.0))],
            [LANES if lane & step else 0 for lane in range(LANES)],
        )
        value = other + whole * signs
        step *= 2
    return let(value)


def _between(y: Buffer, row: Expr, vectors: int, step: int) -> None:
    """Butterflies between vectors that are ``step`` apart."""
    with T.serial(0, vectors // 2) as index:
        first = let((T.floordiv(index, step) * (2 * step) + T.floormod(index, step)) * LANES)
        a, b = (let(load(y, [row, first + offset])) for offset in (0, step * LANES))
        store(y, [row, first], a + b)
        store(y, [row, first + step * LANES], a - b)
