"""Softmax over the last axis.

    y[m, n] = e^(x[m, n] - max_n x[m, n]) / sum_n e^(x[m, n] - max_n x[m, n])

Rows of any length: the last vector of a row is read and written one value at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.functions import power_of_two
from qcompiler.backends.tvm.kernels.row_loop import each_row
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    PrimFunc,
    Register,
    T,
    across,
    build,
    let,
    load,
    parameter,
    rows_parameter,
    splat,
    store,
)

LOWEST = -3.4028234663852886e38

CHAINS = 4
"""Vectors of which the largest are found at once."""


@dataclass(frozen=True)
class Softmax:
    """One kernel; the same for every variant.

    Attributes:
        scale: that values are multiplied by first, above 0.

    Parameters of the PrimFunc, in this order: ``x`` float32 ``[M, N]``; ``y`` float32 ``[M, N]``.  Both numbers are
    known only at the call.
    """

    variant: Variant
    scale: float = 1.0


def softmax(spec: Softmax, name: str = "softmax") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _body(spec))


def _body(spec: Softmax) -> None:
    rows, columns = rows_parameter(), rows_parameter()
    x, y = (parameter(name, (rows, columns), "float32") for name in ("x", "y"))
    each_row(rows, columns, lambda row: _row(spec, x, y, row, columns))


def _row(spec: Softmax, x: Buffer, y: Buffer, row: Expr, columns: Expr) -> None:
    scale, total = splat(T.float32(spec.scale * math.log2(math.e))), Register("float32")
    total.clear(T.float32(0.0))
    most = let(splat(_largest(x, row, columns)))
    for value, put in _vectors(x, y, row, columns, fill=-math.inf):
        power = power_of_two((value - most) * scale)
        put(power)
        total.set(total.value + power)
    inverse = let(splat(T.float32(1.0) / across(total.value, lambda a, b: a + b)))
    for value, put in _vectors(y, y, row, columns, fill=0.0):
        put(let(value * inverse))


def _largest(x: Buffer, row: Expr, columns: Expr) -> Expr:
    """Of a row, by several vectors at once: each waits for the one before it."""
    found = [Register("float32") for _ in range(CHAINS)]
    for register in found:
        register.clear(T.float32(LOWEST))
    with T.serial(0, T.floordiv(columns, LANES * CHAINS)) as index:
        for i, register in enumerate(found):
            value = load(x, [row, (index * CHAINS + i) * LANES])
            register.set(T.max(register.value, value))
    first = let(T.floordiv(columns, LANES * CHAINS) * CHAINS)
    for value, _ in _vectors(x, x, row, columns, fill=-math.inf, first=first):
        found[0].set(T.max(found[0].value, value))
    largest = found[0].value
    for register in found[1:]:
        largest = let(T.max(largest, register.value))
    return across(largest, T.max)


def _vectors(
    source: Buffer, target: Buffer, row: Expr, columns: Expr, *, fill: float, first: Expr = 0
) -> Iterator[tuple[Expr, Callable[[Expr], None]]]:
    """Vectors of a row from one on, each with what writes one in its place; missing lanes are ``fill``."""
    with T.serial(0, T.floordiv(columns, LANES) - first) as index:
        place = [row, (index + first) * LANES]
        yield let(load(source, place)), partial(store, target, place)
    rest = let(T.floormod(columns, LANES))
    with T.If(rest > 0), T.Then():
        start = let(columns - rest)
        tail = T.alloc_buffer((LANES,), "float32")
        store(tail, [0], splat(T.float32(fill)))
        with T.serial(0, rest) as lane:
            T.buffer_store(tail, source[row, start + lane], [lane])
        yield let(load(tail, [0])), partial(_put_tail, target, tail, row, start, rest)


def _put_tail(target: Buffer, tail: Buffer, row: Expr, first: Expr, count: Expr, value: Expr) -> None:
    store(tail, [0], value)
    with T.serial(0, count) as lane:
        T.buffer_store(target, tail[lane], [row, first + lane])
