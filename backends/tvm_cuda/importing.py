"""Operators of the target that differ from tvm-cpu's, where whole kernels for CPUs are called: definitions instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.importing import (
    elementwise,
    movement,
    norms,
    products,
    quantization,
    reductions,
    views,
)
from qcompiler.backends.tvm.importing.attributes import axis_of, integer, number, text
from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.backends.tvm.importing.scope import Dim, Expr, Scope
from qcompiler.backends.tvm.importing.views import product, reshaped
from qcompiler.backends.tvm_cuda import attention
from qcompiler.backends.tvm_cuda.calls import call
from qcompiler.backends.tvm_cuda.definitions import (
    Dot,
    FloatProduct,
    Int8Conv,
    Int8Product,
    LowBit,
    LowBitProduct,
    Packing,
    Rows,
)
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]


def converters(dot: Dot) -> Mapping[str, Converter]:
    """All of the target.

    Args:
        dot: what computes the sum of the four products of the int8 in two int32.
    """
    return {
        **elementwise.BY_OPERATORS,
        **views.CONVERTERS,
        **movement.CONVERTERS,
        **reductions.CONVERTERS,
        **products.CONVERTERS,
        **quantization.CONVERTERS,
        **attention.CONVERTERS,
        **_CONVERTERS,
        f"{DOMAIN}::CudaInt8": lambda scope, node: _int8(scope, node, dot),
    }


def _rows_of(scope: Scope, x: Expr) -> tuple[list[Dim], Dim, Expr]:
    """What is in front of the last axis, how many rows that is, and x as a matrix of so many."""
    shape = scope.shape(x)
    rows = product(shape[:-1])
    return shape[:-1], rows, reshaped(scope, x, [rows, shape[-1]])


def _weight_of(node: ir.Node) -> LowBit:
    channels, depth, bits, group, offset, table, minimum = (
        integer(node, name, 0)
        for name in ("channels", "depth", "bits", "group", "offset", "table", "minimum")
    )
    return LowBit(channels, depth, bits, group, offset, table, bool(minimum))


def _low_bit(scope: Scope, node: ir.Node) -> Expr:
    x, *values = scope.inputs(node)
    before, rows, matrix = _rows_of(scope, x)
    weight = _weight_of(node)
    made = LowBitProduct(weight, bool(integer(node, "bias", 0)))
    result = call(scope, made, rows, [matrix, *values], [rows, weight.channels])
    return reshaped(scope, result, [*before, weight.channels])


def _rows(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    ids, *values = scope.inputs(node)
    shape = scope.shape(ids)
    rows = product(shape)
    table = _weight_of(node)
    if scope.dtype(ids) != "int64":
        ids = scope.emit(relax.op.astype(ids, "int64"))
    result = call(scope, Rows(table), rows, [reshaped(scope, ids, [rows]), *values], [rows, table.depth])
    return reshaped(scope, result, [*shape, table.depth])


def _int8(scope: Scope, node: ir.Node, dot: Dot) -> Expr:
    codes, x_scale, x_zero, matrix, scale, total, *bias = scope.inputs(node)
    before, rows, x = _rows_of(scope, codes)
    channels, depth = integer(node, "channels", 0), integer(node, "depth", 0)
    words = call(scope, Packing(depth), rows, [x], [rows, -(-depth // 4)], "int32")
    made = Int8Product(channels, -(-depth // 4), bool(bias), dot)
    numbers = [reshaped(scope, x_scale, [1]), _zero(scope, x_zero, 128)]
    result = call(scope, made, rows, [words, matrix, scale, total, *numbers, *bias], [rows, channels])
    return reshaped(scope, result, [*before, channels])


def _zero(scope: Scope, zero: Expr, less: int) -> Expr:
    """A zero point as int32 ``[1]``, less a number."""
    from tvm import relax

    whole = scope.emit(relax.op.astype(reshaped(scope, zero, [1]), "int32"))
    return scope.emit(relax.op.subtract(whole, relax.const(less, "int32"))) if less else whole


def _conv_int8(scope: Scope, node: ir.Node) -> Expr:
    codes, zero, weight, scale, *bias = scope.inputs(node)
    batch, *size = scope.shape(codes)
    filters, _, *_ = scope.shape(weight)
    strides, pads, dilations, kernel = (
        tuple(map(int, text(node, name, "").split(",")))
        for name in ("strides", "pads", "dilations", "kernel_shape")
    )
    channels, height, width = (int(item) for item in size)
    made = Int8Conv(
        (channels, height, width), int(filters), (kernel[0], kernel[1]), (strides[0], strides[1]),
        (pads[0], pads[1], pads[2], pads[3]), (dilations[0], dilations[1]), integer(node, "group", 1), bool(bias),
    )  # fmt: skip
    values = [codes, weight, scale, _zero(scope, zero, 0), *bias]
    return call(scope, made, batch, values, [batch, int(filters), *made.result])


def _float(scope: Scope, node: ir.Node) -> Expr:
    x, *values = scope.inputs(node)
    before, rows, matrix = _rows_of(scope, x)
    channels, depth = integer(node, "channels", 0), integer(node, "depth", 0)
    made = FloatProduct(channels, depth, len(values) > 1)
    return reshaped(scope, call(scope, made, rows, [matrix, *values], [rows, channels]), [*before, channels])


def _cast(scope: Scope, node: ir.Node) -> Expr:
    kind = ir.DataType(integer(node, "to", int(ir.DataType.FLOAT)))
    if kind in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        raise UnsupportedError(f"values of {kind.name}; it computes in float32")
    return elementwise.BY_OPERATORS["Cast"](scope, node)


def _dynamic_quantize(scope: Scope, node: ir.Node) -> list[Expr]:
    """DynamicQuantizeLinear, whose ranges are found row by row first, so that more than one thread looks."""
    from tvm import relax

    def constant(value: float) -> Expr:
        return relax.const(value, "float32")

    source = scope.inputs(node)[0]
    _, _, flat = (
        _rows_of(scope, source) if len(scope.shape(source)) else (None, None, reshaped(scope, source, [1, 1]))
    )
    low, high = (
        scope.emit(operator(scope.emit(operator(flat, [1])), [0]))
        for operator in (relax.op.min, relax.op.max)
    )
    low = scope.emit(relax.op.minimum(low, constant(0.0)))
    high = scope.emit(relax.op.maximum(high, constant(0.0)))
    span = scope.emit(relax.op.divide(relax.op.subtract(high, low), constant(255.0)))
    scale = scope.emit(relax.op.where(relax.op.greater(span, constant(0.0)), span, constant(1.0)))
    zero = scope.emit(relax.op.round(scope.emit(relax.op.divide(relax.op.negative(low), scale))))
    zero = scope.emit(relax.op.clip(zero, 0.0, 255.0))
    codes = scope.emit(relax.op.add(relax.op.round(relax.op.divide(source, scale)), zero))
    codes = scope.emit(relax.op.astype(scope.emit(relax.op.clip(codes, 0.0, 255.0)), "uint8"))
    return [codes, scale, scope.emit(relax.op.astype(zero, "uint8"))]


def _rms_norm(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source, gamma = scope.inputs(node)[:2]
    _require_one_result(node)
    axes = list(range(axis_of(node, "axis", len(scope.shape(source)), -1), len(scope.shape(source))))
    return relax.op.nn.rms_norm(source, gamma, axes, number(node, "epsilon", 1e-5))


def _layer_norm(scope: Scope, node: ir.Node) -> Expr:
    _require_one_result(node)
    return reductions.CONVERTERS["LayerNormalization"](scope, node)


def _require_one_result(node: ir.Node) -> None:
    if any(map(norms._is_read, node.outputs[1:3])):
        raise UnsupportedError("a norm that also gives mean or deviation")


def _skip_norm(scope: Scope, node: ir.Node) -> list[Expr]:
    """com.microsoft's norms of a sum, which is a result, too."""
    from tvm import relax

    layer = node.op_type == "SkipLayerNormalization"
    source, residual, gamma, *rest = scope.inputs(node)
    rest += [None] * (2 - len(rest))
    _require_one_result(node)
    beta, bias = (rest[0], rest[1]) if layer else (None, rest[0])
    total = scope.emit(relax.op.add(source, residual))
    if bias is not None:
        total = scope.emit(relax.op.add(total, bias))
    epsilon = number(node, "epsilon", 1e-12 if layer else 1e-5)
    if not layer:
        normed = relax.op.nn.rms_norm(total, gamma, [-1], epsilon)
    else:
        beta = beta if beta is not None else scope.full(scope.shape(gamma), 0.0, "float32")
        normed = relax.op.nn.layer_norm(total, gamma, beta, [-1], epsilon)
    normed = scope.emit(normed)
    return [normed, normed, normed, total]


def _names(operators: Sequence[str], converter: Converter) -> dict[str, Converter]:
    return dict.fromkeys(operators, converter)


_CONVERTERS: dict[str, Converter] = {
    "Cast": _cast,
    "DynamicQuantizeLinear": _dynamic_quantize,
    "LayerNormalization": _layer_norm,
    **_names(
        ("RMSNormalization", "SimplifiedLayerNormalization", "com.microsoft::SimplifiedLayerNormalization"),
        _rms_norm,
    ),
    **_names(
        ("com.microsoft::SkipLayerNormalization", "com.microsoft::SkipSimplifiedLayerNormalization"),
        _skip_norm,
    ),
    f"{DOMAIN}::CudaFloat": _float,
    f"{DOMAIN}::CudaLowBit": _low_bit,
    f"{DOMAIN}::CudaRows": _rows,
    f"{DOMAIN}::CudaConvInt8": _conv_int8,
}
