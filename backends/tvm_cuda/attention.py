"""Attention and rotary positions as definitions: turned, joined with the past, scored, weighed.

Semantics of ``com.microsoft::GroupQueryAttention``: new keys and values are turned by their position and put behind
the past of their row of the batch; row ``s`` sees keys up to its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.importing.attention import _UNSUPPORTED_INPUTS, _mask, _scales
from qcompiler.backends.tvm.importing.attributes import integer, number
from qcompiler.backends.tvm.importing.scope import Expr, Scope, expression, same
from qcompiler.backends.tvm.importing.views import broadcast, reshaped
from qcompiler.backends.tvm_cuda.attention_cache import appended, places_from, turned
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]

_LOWEST = -3.4028234663852886e38


def _attention(scope: Scope, node: ir.Node) -> Expr:
    """Standard Attention (opset 23) without a cache."""
    from tvm import relax

    query, key, value, *rest = scope.inputs(node)
    if any(item is not None for item in rest[1:]) or len([item for item in node.outputs if item.name]) > 1:
        raise UnsupportedError("Attention with a cache of its own; export GroupQueryAttention instead")
    split = len(scope.shape(query)) == 4
    parts = [query, key, value]
    if not split:
        counts = [integer(node, "q_num_heads", 0), *[integer(node, "kv_num_heads", 0)] * 2]
        parts = [_split(scope, part, count) for part, count in zip(parts, counts, strict=True)]
    query, key, value = (_repeated(scope, part, int(scope.shape(parts[0])[1])) for part in parts)
    size, rows, keys = int(scope.shape(query)[3]), scope.shape(query)[2], scope.shape(key)[2]
    scale = number(node, "scale", 0.0) or size**-0.5
    columns = scope.emit(relax.op.permute_dims(key, [0, 1, 3, 2]))
    scores = scope.emit(relax.op.matmul(query, columns))
    scores = _capped(scope, scope.emit(relax.op.multiply(scores, relax.const(scale, "float32"))), node)
    if rest and rest[0] is not None:
        scores = scope.emit(relax.op.add(scores, _mask(scope, rest[0])))
    if integer(node, "is_causal", 0):
        if not same(rows, keys):
            raise UnsupportedError("causal Attention of fewer queries than keys")
        scores = _causal(scope, scores)
    weights = scope.emit(relax.op.nn.softmax(scores, -1))
    result = scope.emit(relax.op.matmul(weights, value))
    return result if split else _joined(scope, result)


def _split(scope: Scope, part: Expr, heads: int) -> Expr:
    """``[B, S, heads * size]`` to ``[B, heads, S, size]``."""
    from tvm import relax

    batch, rows, width = scope.shape(part)
    apart = reshaped(scope, part, [batch, rows, heads, int(width) // heads])
    return scope.emit(relax.op.permute_dims(apart, [0, 2, 1, 3]))


def _joined(scope: Scope, part: Expr) -> Expr:
    """``[B, heads, S, size]`` to ``[B, S, heads * size]``."""
    from tvm import relax

    batch, heads, rows, size = scope.shape(part)
    return reshaped(scope, scope.emit(relax.op.permute_dims(part, [0, 2, 1, 3])), [batch, rows, heads * size])


def _repeated(scope: Scope, part: Expr, heads: int) -> Expr:
    """As many heads as there are queries for."""
    from tvm import relax

    count = int(scope.shape(part)[1])
    return part if count == heads else scope.emit(relax.op.repeat(part, heads // count, 1))


def _capped(scope: Scope, scores: Expr, node: ir.Node) -> Expr:
    from tvm import relax

    cap = number(node, "softcap", 0.0)
    if not cap:
        return scores
    within = scope.emit(relax.op.tanh(relax.op.divide(scores, relax.const(cap, "float32"))))
    return scope.emit(relax.op.multiply(within, relax.const(cap, "float32")))


def _causal(scope: Scope, scores: Expr) -> Expr:
    from tvm import te, tirx

    def masked(given: Any) -> Any:
        return te.compute(
            given.shape,
            lambda b, h, s, t: tirx.Select(t <= s, given[b, h, s, t], tirx.const(_LOWEST, "float32")),
            name="causal",
        )

    return scope.builder.emit_te(masked, scores)


def _group_query_attention(scope: Scope, node: ir.Node) -> list[Expr]:
    """com.microsoft's GroupQueryAttention; past and present are different memory."""
    from tvm import relax

    given = scope.inputs(node) + [None] * (14 - len(node.inputs))
    for index, name in _UNSUPPORTED_INPUTS.items():
        if given[index] is not None:
            raise UnsupportedError(f"GroupQueryAttention with {name}")
    if integer(node, "smooth_softmax", 0):
        raise UnsupportedError("GroupQueryAttention with smooth_softmax")
    query, key, value, past_key, past_value, last, total = given[:7]
    if past_key is None or past_value is None:
        raise UnsupportedError("GroupQueryAttention without a past")
    batch, rows, _ = scope.shape(query)
    _, kv_heads, past, size = scope.shape(past_key)
    heads, kv_heads, size = integer(node, "num_heads", 0), int(kv_heads), int(size)
    if key is None:
        query, key, value = _unpacked(scope, query, heads * size, kv_heads * size)
    known = scope.content(node.inputs[6])
    keys = known.reshape(-1)[0] if known is not None else past + rows
    scope.add_up(keys, past, rows)
    first = _first(scope, reshaped(scope, last, [batch]), reshaped(scope, total, [1]), rows)
    query = reshaped(scope, query, [batch, rows, heads, size])
    new = [reshaped(scope, item, [batch, rows, kv_heads, size]) for item in (key, value)]
    if integer(node, "do_rotary", 0):
        interleaved = bool(integer(node, "rotary_interleaved", 0))
        places = places_from(scope, first, batch, rows)
        query, new[0] = (turned(scope, item, places, given[7:9], interleaved) for item in (query, new[0]))
    codes = scope.dtype(past_key) == "int8"
    scales = [_scales(item, kv_heads, size) for item in node.inputs[12:14]] if codes else [None, None]
    present = [
        appended(scope, past_part, part, first, keys, scale)
        for past_part, part, scale in zip((past_key, past_value), new, scales, strict=True)
    ]
    read = [_decoded(scope, item, scale) for item, scale in zip(present, scales, strict=True)]
    scale = number(node, "scale", 0.0) or size**-0.5
    scores = _capped(scope, _scores(scope, query, read[0], scale), node)
    scores = _visible(scope, scores, first, max(0, integer(node, "local_window_size", -1)))
    weights = scope.emit(relax.op.nn.softmax(scores, -1))
    result = _weighed(scope, weights, read[1])
    return [reshaped(scope, result, [batch, rows, heads * size]), *present]


def _unpacked(scope: Scope, packed: Expr, width: int, other: int) -> list[Expr]:
    from tvm import relax

    found = scope.emit(relax.op.split(packed, [width, width + other], 2))
    return [scope.emit(relax.TupleGetItem(found, index)) for index in range(3)]


def _first(scope: Scope, last: Expr, total: Expr, rows: Any) -> Expr:
    """int32 ``[B]``: where the new keys of each row of the batch begin; at 0 where there is nothing of the past."""
    from tvm import te, tirx

    def begin(last: Any, total: Any, rows: Any) -> Any:
        count = tirx.Cast("int32", rows)
        zero = tirx.const(0, "int64")
        return te.compute(
            last.shape,
            lambda b: tirx.Select(
                total[zero] == count,
                tirx.const(0, "int32"),
                tirx.max(last[b] + 1 - count, tirx.const(0, "int32")),
            ),
            name="first",
        )

    return scope.builder.emit_te(begin, last, total, expression(rows))


def _decoded(scope: Scope, cache: Expr, scale: Expr | None) -> Expr:
    from tvm import relax

    if scale is None:
        return cache
    heads, size = scope.shape(scale)
    factor = reshaped(scope, scale, [1, heads, 1, size])
    return scope.emit(relax.op.multiply(scope.emit(relax.op.astype(cache, "float32")), factor))


def _scores(scope: Scope, query: Expr, keys: Expr, scale: float) -> Expr:
    """``[B, heads, S, T]`` of queries ``[B, S, heads, size]`` and keys ``[B, kv_heads, T, size]``."""
    from tvm import te, tirx

    def scored(query: Any, keys: Any) -> Any:
        batch, rows, heads, size = query.shape
        group = heads // keys.shape[1]
        d = te.reduce_axis((0, size), name="d")
        found = te.compute(
            (batch, heads, rows, keys.shape[2]),
            lambda b, h, s, t: te.sum(query[b, s, h, d] * keys[b, h // group, t, d], axis=d),
            name="matmul",
        )
        return te.compute(found.shape, lambda *at: found(*at) * tirx.const(scale, "float32"), name="scaled")

    return scope.builder.emit_te(scored, query, keys)


def _visible(scope: Scope, scores: Expr, first: Expr, window: int) -> Expr:
    """Scores of keys that a row does not see are the lowest there are."""
    from tvm import te, tirx

    def masked(scores: Any, first: Any) -> Any:
        def value(b: Any, h: Any, s: Any, t: Any) -> Any:
            here = tirx.Cast("int64", first[b]) + s
            seen = t <= here
            if window:
                seen = tirx.all(seen, t > here - window)
            return tirx.Select(seen, scores[b, h, s, t], tirx.const(_LOWEST, "float32"))

        return te.compute(scores.shape, value, name="visible")

    return scope.builder.emit_te(masked, scores, first)


def _weighed(scope: Scope, weights: Expr, values: Expr) -> Expr:
    """``[B, S, heads, size]``: sums of values ``[B, kv_heads, T, size]``."""
    from tvm import te

    def summed(weights: Any, values: Any) -> Any:
        batch, heads, rows, length = weights.shape
        group = heads // values.shape[1]
        t = te.reduce_axis((0, length), name="t")
        return te.compute(
            (batch, rows, heads, values.shape[3]),
            lambda b, s, h, d: te.sum(weights[b, h, s, t] * values[b, h // group, t, d], axis=t),
            name="matmul",
        )

    return scope.builder.emit_te(summed, weights, values)


def _rotary(scope: Scope, node: ir.Node) -> Expr:
    """RotaryEmbedding of ``[B, S, heads * size]`` or ``[B, heads, S, size]``."""
    from tvm import relax

    source, positions, cosines, sines = scope.inputs(node)[:4]
    if integer(node, "is_packed_batching", 0):
        raise UnsupportedError("a rotation of packed sequences")
    shape, moved = scope.shape(source), 2 * int(scope.shape(cosines)[1])
    split = len(shape) == 4
    heads = int(shape[1]) if split else integer(node, "num_heads", 0) or int(shape[2]) // moved
    part = scope.emit(relax.op.permute_dims(source, [0, 2, 1, 3])) if split else source
    batch, rows = scope.shape(part)[:2]
    size = int(shape[3]) if split else int(shape[2]) // heads
    part = reshaped(scope, part, [batch, rows, heads, size])
    if len(scope.shape(positions)) == 1:
        positions = scope.emit(relax.op.add(relax.op.arange(0, rows, 1, "int64"), positions))
        positions = reshaped(scope, positions, [1, rows])
    places = broadcast(scope, positions, [batch, rows])

    result = turned(scope, part, places, [cosines, sines], bool(integer(node, "interleaved", 0)))
    if split:
        return relax.op.permute_dims(result, [0, 2, 1, 3])
    return reshaped(scope, result, [batch, rows, heads * size])


CONVERTERS: dict[str, Converter] = {
    "Attention": _attention,
    "RotaryEmbedding": _rotary,
    "com.microsoft::GroupQueryAttention": _group_query_attention,
    "com.microsoft::RotaryEmbedding": _rotary,
}
