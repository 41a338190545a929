"""QuantizeLinear and its kin by their reference semantics, for what no kernel takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import axis_of, integer
from qcompiler.backends.tvm.importing.scope import Expr, Scope
from qcompiler.backends.tvm.importing.views import reshaped
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]

_RANGES = {
    "uint8": (0.0, 255.0),
    "int8": (-128.0, 127.0),
    "uint16": (0.0, 65535.0),
    "int16": (-32768.0, 32767.0),
}


def _quantize(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source, scale, *rest = scope.inputs(node)
    zero = rest[0] if rest else None
    kind = scope.dtype(zero) if zero is not None else "uint8"
    if kind not in _RANGES:
        raise UnsupportedError(f"codes of type {kind} made at run time")
    scale = _laid_out(scope, node, scale, source)
    codes = scope.emit(relax.op.round(scope.emit(relax.op.divide(source, scale))))
    if zero is not None:
        codes = scope.emit(
            relax.op.add(codes, relax.op.astype(_laid_out(scope, node, zero, source), "float32"))
        )
    low, high = _RANGES[kind]
    return relax.op.astype(scope.emit(relax.op.clip(codes, low, high)), kind)


def _dequantize(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    codes, scale, *rest = scope.inputs(node)
    values = scope.emit(relax.op.astype(codes, "float32"))
    if rest and rest[0] is not None:
        zero = _laid_out(scope, node, rest[0], codes)
        values = scope.emit(relax.op.subtract(values, relax.op.astype(zero, "float32")))
    return relax.op.multiply(values, _laid_out(scope, node, scale, codes))


def _laid_out(scope: Scope, node: ir.Node, factor: Expr, like: Expr) -> Expr:
    """A scale or zero point as it is multiplied with: by axis, or by blocks along it."""
    from tvm import relax

    shape, target = scope.shape(factor), scope.shape(like)
    if not shape or shape == [1]:
        return reshaped(scope, factor, []) if shape else factor
    axis = axis_of(node, "axis", len(target), 1)
    block = integer(node, "block_size", 0)
    if len(shape) == 1 and not block:
        return reshaped(scope, factor, [size if i == axis else 1 for i, size in enumerate(target)])
    repeated = scope.emit(relax.op.repeat(factor, block, axis))
    if scope.shape(repeated)[axis] != target[axis]:
        repeated = scope.emit(relax.op.strided_slice(repeated, [axis], [0], [target[axis]]))
    return repeated


def _dynamic(scope: Scope, node: ir.Node) -> list[Expr]:
    from tvm import relax

    def constant(value: float) -> Expr:
        return relax.const(value, "float32")

    source = scope.inputs(node)[0]
    low = scope.emit(relax.op.minimum(scope.emit(relax.op.min(source)), constant(0.0)))
    high = scope.emit(relax.op.maximum(scope.emit(relax.op.max(source)), constant(0.0)))
    span = scope.emit(relax.op.divide(relax.op.subtract(high, low), constant(255.0)))
    empty = relax.op.greater(span, constant(0.0))
    scale = scope.emit(relax.op.where(empty, span, constant(1.0)))
    zero = scope.emit(relax.op.round(scope.emit(relax.op.divide(relax.op.negative(low), scale))))
    zero = scope.emit(relax.op.clip(zero, 0.0, 255.0))
    codes = scope.emit(relax.op.add(relax.op.round(relax.op.divide(source, scale)), zero))
    codes = scope.emit(relax.op.astype(scope.emit(relax.op.clip(codes, 0.0, 255.0)), "uint8"))
    return [codes, scale, scope.emit(relax.op.astype(zero, "uint8"))]


CONVERTERS: dict[str, Converter] = {
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
    "DynamicQuantizeLinear": _dynamic,
}
