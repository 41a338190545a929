"""Rows divided by their size: RMSNorm and LayerNorm, with a sum before and codes behind.

    s = x (+ residual) (+ bias of the sum)
    rms:   y = s / sqrt(mean(s^2) + epsilon) * gamma
    layer: y = (s - mean(s)) / sqrt(mean((s - mean(s))^2) + epsilon) * gamma (+ beta)

They are LayerNormalization and RMSNormalization of ONNX over the last axis, SimplifiedLayerNormalization and
SkipSimplifiedLayerNormalization, SkipLayerNormalization of ``com.microsoft``.  The variance is computed from
differences, so it does not cancel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.quantize import spans
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
    load_part,
    parameter,
    rows_parameter,
    splat,
    store_part,
)


@dataclass(frozen=True)
class Norm:
    """One kernel; the same for every variant.

    Attributes:
        columns: values of a row.
        kind: rms or layer.
        epsilon: added to the mean square.
        residual: a second matrix is added first.
        bias: a row is added first.
        beta: a row is added behind (layer).
        sum: the sum is a result of its own.

    Parameters of the PrimFunc, in this order: ``x`` float32 ``[M, N]``; ``residual`` ``[M, N]``; ``gamma`` ``[N]``;
    ``beta`` ``[N]``; ``bias`` ``[N]``; ``y`` ``[M, N]``; ``sum`` ``[M, N]``.
    """

    columns: int
    variant: Variant
    kind: Literal["rms", "layer"] = "rms"
    epsilon: float = 1e-5
    residual: bool = False
    bias: bool = False
    beta: bool = False
    sum: bool = False


def norm(spec: Norm, name: str = "norm") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _Norm(spec).body())


class _Norm:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: Norm) -> None:
        self.spec, self.rows = spec, rows_parameter()
        shape, row = (self.rows, spec.columns), (spec.columns,)
        self.x = parameter("x", shape, "float32")
        self.residual: Buffer = parameter("residual", shape, "float32") if spec.residual else None
        self.gamma = parameter("gamma", row, "float32")
        self.beta: Buffer = parameter("beta", row, "float32") if spec.beta else None
        self.bias: Buffer = parameter("bias", row, "float32") if spec.bias else None
        self.result = parameter("y", shape, "float32")
        self.sum: Buffer = parameter("sum", shape, "float32") if spec.sum else None

    def body(self) -> None:
        each_row(self.rows, T.int32(self.spec.columns), self._row)

    def _row(self, row: Expr) -> None:
        total, square = Register("float32"), Register("float32")
        total.clear(T.float32(0.0))
        square.clear(T.float32(0.0))
        self._add_up(row, total, square)
        mean: Expr = None
        if self.spec.kind == "layer":
            mean = let(splat(self._mean(total)))
            square.clear(T.float32(0.0))
            self._squares(row, mean, square)
        size = let(T.sqrt(self._mean(square) + T.float32(self.spec.epsilon)))
        self._write(row, mean, let(splat(T.float32(1.0) / size)))

    def _mean(self, register: Register) -> Expr:
        return let(across(register.value, lambda a, b: a + b) / T.float32(self.spec.columns))

    def _add_up(self, row: Expr, total: Register, square: Register) -> None:
        """Sums of values and of squares; what was added is kept in the result until it is divided."""
        for first, vectors, valid in spans(self.spec.columns):
            with T.serial(0, vectors) as index:
                column = first + index * LANES
                value = load_part(self.x, [row, column], valid)
                if self.residual is not None:
                    value = value + load_part(self.residual, [row, column], valid)
                if self.bias is not None:
                    value = value + load_part(self.bias, [column], valid)
                value = let(value)
                for target in (self._kept(), self.sum):
                    if target is not None:
                        store_part(target, [row, column], value, valid)
                if self.spec.kind == "layer":
                    total.set(total.value + value)
                else:
                    square.set(square.value + value * value)

    def _kept(self) -> Buffer:
        """Where the sum is read again: the result, unless it has a place of its own or nothing was added."""
        added = self.residual is not None or self.bias is not None
        return self.result if added and self.sum is None else None

    def _source(self) -> Buffer:
        return self.sum if self.sum is not None else self._kept() if self._kept() is not None else self.x

    def _squares(self, row: Expr, mean: Expr, square: Register) -> None:
        for first, vectors, valid in spans(self.spec.columns):
            with T.serial(0, vectors) as index:
                value = load_part(self._source(), [row, first + index * LANES], valid)
                apart = let(value - mean)
                if valid < LANES:
                    exists = T.ramp(T.int32(0), 1, LANES) < splat(T.int32(valid))
                    apart = let(T.Select(exists, apart, splat(T.float32(0.0))))
                square.set(square.value + apart * apart)

    def _write(self, row: Expr, mean: Expr, inverse: Expr) -> None:
        for first, vectors, valid in spans(self.spec.columns):
            with T.serial(0, vectors) as index:
                column = first + index * LANES
                value = load_part(self._source(), [row, column], valid)
                if mean is not None:
                    value = value - mean
                value = value * inverse * load_part(self.gamma, [column], valid)
                if self.beta is not None:
                    value = value + load_part(self.beta, [column], valid)
                store_part(self.result, [row, column], value, valid)
