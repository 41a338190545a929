"""Matrix products, convolutions and pooling in floats, by TVM's own operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import integer, integers_of, number, text
from qcompiler.backends.tvm.importing.scope import Expr, Scope
from qcompiler.backends.tvm.importing.views import reshaped
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]


def _matmul(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    return relax.op.matmul(*scope.inputs(node))


def _gemm(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    a, b, *rest = scope.inputs(node)
    a = scope.emit(relax.op.permute_dims(a)) if integer(node, "transA", 0) else a
    b = scope.emit(relax.op.permute_dims(b)) if integer(node, "transB", 0) else b
    result = scope.emit(relax.op.matmul(a, b))
    alpha = number(node, "alpha", 1.0)
    if alpha != 1.0:
        result = scope.emit(relax.op.multiply(result, relax.const(alpha, scope.dtype(result))))
    if not rest or rest[0] is None:
        return result
    addend, beta = rest[0], number(node, "beta", 1.0)
    if beta != 1.0:
        addend = scope.emit(relax.op.multiply(addend, relax.const(beta, scope.dtype(result))))
    return relax.op.add(result, addend)


def _conv(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source, weight, *rest = scope.inputs(node)
    kernel = scope.shape(weight)[2:]
    if len(kernel) not in (1, 2):
        raise UnsupportedError(f"a convolution over {len(kernel)} dimensions")
    operator = relax.op.nn.conv1d if len(kernel) == 1 else relax.op.nn.conv2d
    strides = integers_of(node, "strides") or [1] * len(kernel)
    dilations = integers_of(node, "dilations") or [1] * len(kernel)
    padding = pads_of(node, scope.shape(source)[2:], kernel, strides, dilations)
    result = operator(source, weight, strides, padding, dilations, integer(node, "group", 1))
    if not rest or rest[0] is None:
        return result
    bias = reshaped(scope, rest[0], [1, scope.shape(weight)[0]] + [1] * len(kernel))
    return relax.op.add(scope.emit(result), bias)


def pads_of(
    node: ir.Node, sizes: list[Any], kernel: list[Any], strides: list[int], dilations: list[int]
) -> list[int]:
    """Padding in front of every dimension, then behind, as TVM and ONNX both list it."""
    kind = text(node, "auto_pad", "NOTSET")
    if kind in ("NOTSET", ""):
        return integers_of(node, "pads") or [0] * (2 * len(kernel))
    if kind == "VALID":
        return [0] * (2 * len(kernel))
    before, after = [], []
    for size, extent, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        if not isinstance(size, int):
            raise UnsupportedError(f"auto_pad={kind} of a size known only at run time")
        reach = (int(extent) - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        small = total // 2
        before.append(total - small if kind == "SAME_LOWER" else small)
        after.append(small if kind == "SAME_LOWER" else total - small)
    return before + after


def _pool(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    if len([output for output in node.outputs if output.name]) > 1 and node.outputs[1].uses():
        raise UnsupportedError("the indices of a MaxPool")
    source = scope.inputs(node)[0]
    kernel = integers_of(node, "kernel_shape") or []
    if len(kernel) != 2:
        raise UnsupportedError(f"pooling over {len(kernel)} dimensions")
    strides = integers_of(node, "strides") or [1, 1]
    dilations = integers_of(node, "dilations") or [1, 1]
    padding = pads_of(node, scope.shape(source)[2:], kernel, strides, dilations)
    ceiling = bool(integer(node, "ceil_mode", 0))
    if node.op_type == "MaxPool":
        return relax.op.nn.max_pool2d(source, kernel, strides, padding, dilations, ceiling)
    counted = bool(integer(node, "count_include_pad", 0))
    return relax.op.nn.avg_pool2d(source, kernel, strides, padding, dilations, ceiling, counted)


def _global_pool(scope: Scope, node: ir.Node) -> Expr:
    from tvm import relax

    source = scope.inputs(node)[0]
    axes = list(range(2, len(scope.shape(source))))
    operator = relax.op.mean if node.op_type == "GlobalAveragePool" else relax.op.max
    return operator(source, axes, keepdims=True)


CONVERTERS: dict[str, Converter] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
}
