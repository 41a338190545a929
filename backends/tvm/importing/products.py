"""Matrix products, convolutions and pooling in floats, and attention built of them, by TVM's own operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.importing.scope import Expr, Scope, integer, integers_of, number, simplified, text
from qcompiler.backends.tvm.importing.views import broadcast, reshaped
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


def _attention(scope: Scope, node: ir.Node) -> Expr:
    """Standard Attention on ``[B, S, heads * size]`` without a cache."""
    from tvm import relax

    query, key, value, *rest = scope.inputs(node)
    heads, groups = integer(node, "q_num_heads", 0), integer(node, "kv_num_heads", 0)
    if not heads or len([item for item in rest[1:] if item is not None]) or len(node.outputs) > 1:
        raise UnsupportedError("Attention with a cache, or on inputs of rank 4")
    batch, length, width = scope.shape(query)
    keys = scope.shape(key)[1]
    size = width // heads
    scale = number(node, "scale", 1 / math.sqrt(size))
    turned = [
        split_heads(scope, part, count) for part, count in ((query, heads), (key, groups), (value, groups))
    ]
    turned[1:] = [repeated(scope, part, heads // groups) for part in turned[1:]]
    query = scope.emit(relax.op.multiply(turned[0], relax.const(scale, "float32")))
    scores = scope.emit(relax.op.matmul(query, scope.emit(relax.op.permute_dims(turned[1], [0, 1, 3, 2]))))
    if rest and rest[0] is not None:
        scores = scope.emit(relax.op.add(scores, rest[0]))
    if integer(node, "is_causal", 0):
        ones = scope.full([length, keys], 1.0, "float32")
        seen = scope.emit(relax.op.greater(relax.op.tril(ones), relax.const(0.0, "float32")))
        scores = scope.emit(relax.op.where(seen, scores, relax.const(-3.4e38, "float32")))
    weights = scope.emit(relax.op.nn.softmax(scores, -1))
    mixed = scope.emit(relax.op.matmul(weights, turned[2]))
    joined = scope.emit(relax.op.permute_dims(mixed, [0, 2, 1, 3]))
    return reshaped(scope, joined, [batch, length, width])


def split_heads(scope: Scope, source: Expr, heads: int) -> Expr:
    """``[B, S, heads * size]`` to ``[B, heads, S, size]``."""
    from tvm import relax

    batch, length, width = scope.shape(source)
    parts = reshaped(scope, source, [batch, length, heads, width // heads])
    return scope.emit(relax.op.permute_dims(parts, [0, 2, 1, 3]))


def repeated(scope: Scope, source: Expr, times: int) -> Expr:
    """Every head ``times`` in a row."""
    if times == 1:
        return source
    batch, heads, length, size = scope.shape(source)
    alone = reshaped(scope, source, [batch, heads, 1, length, size])
    wide = broadcast(scope, alone, [batch, heads, times, length, size])
    return reshaped(scope, wide, [batch, simplified(heads * times), length, size])


def rotary(scope: Scope, node: ir.Node) -> Expr:
    """com.microsoft's RotaryEmbedding of ``[B, S, heads * size]`` or ``[B, heads, S, size]``, halves apart."""
    from tvm import relax

    source, positions, cosines, sines = scope.inputs(node)[:4]
    if (
        integer(node, "interleaved", 0)
        or integer(node, "rotary_embedding_dim", 0)
        or integer(node, "is_packed_batching", 0)
    ):
        raise UnsupportedError("a rotation of interleaved or partial heads")
    shape = scope.shape(source)
    half = int(scope.shape(cosines)[1])
    flat = len(shape) == 3
    parts = split_heads(scope, source, int(shape[2]) // (2 * half)) if flat else source
    length = scope.shape(parts)[2]
    tables = [_positions(scope, table, positions, length) for table in (cosines, sines)]
    low = scope.emit(relax.op.strided_slice(parts, [3], [0], [half]))
    high = scope.emit(relax.op.strided_slice(parts, [3], [half], [2 * half]))
    first = relax.op.subtract(relax.op.multiply(low, tables[0]), relax.op.multiply(high, tables[1]))
    second = relax.op.add(relax.op.multiply(high, tables[0]), relax.op.multiply(low, tables[1]))
    turned = scope.emit(relax.op.concat([scope.emit(first), scope.emit(second)], 3))
    return reshaped(scope, scope.emit(relax.op.permute_dims(turned, [0, 2, 1, 3])), shape) if flat else turned


def _positions(scope: Scope, table: Expr, positions: Expr, length: Any) -> Expr:
    """``[B or 1, 1, S, half]``: rows of a table; one position is where every sequence starts."""
    from tvm import relax

    shape = scope.shape(positions)
    if len(shape) == 1:
        positions = scope.emit(relax.op.add(relax.op.arange(0, length, 1, "int64"), positions))
        positions = reshaped(scope, positions, [1, length])
    rows = scope.emit(relax.op.take(table, positions, 0, mode="clip"))
    batch, steps, half = scope.shape(rows)
    return reshaped(scope, rows, [batch, 1, steps, half])


CONVERTERS: dict[str, Converter] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "Attention": _attention,
    "com.microsoft::RotaryEmbedding": rotary,
}
