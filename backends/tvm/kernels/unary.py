"""One function of every value, and its product with a second matrix (gated units).

y[i] = f(x[i]) (* gate[i])
"""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.functions import Function, apply
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
    store,
)

CHUNK = 64
"""Vectors that one task takes."""


@dataclass(frozen=True)
class Unary:
    """One kernel; the same for every variant.

    Attributes:
        function: of each value.
        gated: the result is multiplied by a second input (SwiGLU, GeGLU: arXiv 2002.05202).

    Parameters of the PrimFunc, in this order: ``x`` float32 ``[L]``; ``gate`` float32 ``[L]``; ``y`` float32 ``[L]``.
    """

    function: Function
    variant: Variant
    gated: bool = False


def unary(spec: Unary, name: str = "unary") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _body(spec))


def _body(spec: Unary) -> None:
    length = rows_parameter()
    x = parameter("x", (length,), "float32")
    gate: Buffer = parameter("gate", (length,), "float32") if spec.gated else None
    y = parameter("y", (length,), "float32")
    vectors = let(T.floordiv(length, LANES))

    def chunk(index: Expr) -> None:
        first = let(index * CHUNK)
        with T.serial(0, T.min(vectors - first, CHUNK)) as vector:
            place = let((first + vector) * LANES)
            store(y, [place], _value(spec, *(load(source, [place]) for source in _inputs(x, gate))))

    each_row(let(T.floordiv(vectors + (CHUNK - 1), CHUNK)), T.int32(CHUNK * LANES), chunk)
    start = let(vectors * LANES)
    with T.If(start < length), T.Then():
        tails = [_tail(source, start, length) for source in _inputs(x, gate)]
        last = T.alloc_buffer((LANES,), "float32")
        store(last, [0], _value(spec, *tails))
        with T.serial(0, length - start) as lane:
            T.buffer_store(y, last[lane], [start + lane])


def _inputs(x: Buffer, gate: Buffer | None) -> list[Buffer]:
    return [x] if gate is None else [x, gate]


def _value(spec: Unary, x: Expr, gate: Expr = None) -> Expr:
    value = apply(spec.function, x)
    return let(value if gate is None else value * gate)


def _tail(source: Buffer, start: Expr, length: Expr) -> Expr:
    """The last values in a vector; its other lanes repeat the last."""
    whole = T.alloc_buffer((LANES,), "float32")
    with T.serial(0, LANES) as lane:
        T.buffer_store(whole, source[T.min(start + lane, length - 1)], [lane])
    return let(load(whole, [0]))
