"""Attention, with and without a cache of keys and values, and rotary positions: one kernel each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.backends.tvm.importing.attributes import integer, number
from qcompiler.backends.tvm.importing.scope import Expr, Scope, expression, same
from qcompiler.backends.tvm.importing.views import broadcast, product, reshaped
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]

_LOWEST = -3.4028234663852886e38


def _attention(scope: Scope, node: ir.Node) -> Expr:
    """Standard Attention (opset 23) without a cache."""
    from qcompiler.backends.tvm.kernels.attention import Attention, attention
    from qcompiler.backends.tvm.kernels.rotary import Turn

    query, key, value, *rest = scope.inputs(node)
    if any(item is not None for item in rest[1:]) or len([item for item in node.outputs if item.name]) > 1:
        raise UnsupportedError("Attention with a cache of its own; export GroupQueryAttention instead")
    parts, heads = (
        [query, key, value],
        [integer(node, "q_num_heads", 0), *[integer(node, "kv_num_heads", 0)] * 2],
    )
    split = len(scope.shape(query)) == 4
    if split:
        heads = [int(scope.shape(part)[1]) for part in parts]
        parts = [_joined(scope, part) for part in parts]
    batch, rows, width = scope.shape(parts[0])
    size, keys = int(width) // heads[0], scope.shape(parts[1])[1]
    if int(scope.shape(parts[2])[2]) != heads[2] * size:
        raise UnsupportedError("Attention whose values have another width than its keys")
    causal = bool(integer(node, "is_causal", 0))
    if causal and not same(rows, keys):
        raise UnsupportedError("causal Attention of fewer queries than keys")
    mask = None if not rest or rest[0] is None else _mask(scope, rest[0])
    spec = Attention(
        heads[0], heads[1], Turn(size, 0), scope.variant, "none", causal=causal, mask=mask is not None,
        softcap=number(node, "softcap", 0.0), scale=number(node, "scale", 0.0),
    )  # fmt: skip
    inputs = [*parts, *([] if mask is None else [mask])]
    result = scope.call(spec, partial(attention, spec), inputs, [batch, rows, width], "float32")
    return _apart(scope, result, heads[0]) if split else result


def _joined(scope: Scope, part: Expr) -> Expr:
    """``[B, heads, S, size]`` to ``[B, S, heads * size]``."""
    from tvm import relax

    batch, heads, rows, size = scope.shape(part)
    return reshaped(scope, scope.emit(relax.op.permute_dims(part, [0, 2, 1, 3])), [batch, rows, heads * size])


def _apart(scope: Scope, joined: Expr, heads: int) -> Expr:
    from tvm import relax

    batch, rows, width = scope.shape(joined)
    return relax.op.permute_dims(reshaped(scope, joined, [batch, rows, heads, width // heads]), [0, 2, 1, 3])


def _mask(scope: Scope, mask: Expr) -> Expr:
    """``[B or 1, heads or 1, S or 1, T]`` float32: what is added to the scores."""
    from tvm import relax

    if scope.dtype(mask) == "bool":
        zero, lowest = relax.const(0.0, "float32"), relax.const(_LOWEST, "float32")
        mask = scope.emit(relax.op.where(mask, zero, lowest))
    shape = scope.shape(mask)
    return reshaped(scope, mask, [1] * (4 - len(shape)) + shape)


_UNSUPPORTED_INPUTS = {9: "position_ids", 10: "attention_bias", 11: "head_sink"}


def _group_query_attention(scope: Scope, node: ir.Node) -> list[Expr]:
    """com.microsoft's GroupQueryAttention; past and present are different memory, or one with room for both."""
    from qcompiler.backends.tvm.kernels.attention import Attention, attention
    from qcompiler.backends.tvm.kernels.rotary import Turn

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
    heads, turned = integer(node, "num_heads", 0), bool(integer(node, "do_rotary", 0))
    tables = given[7:9] if turned else []
    codes = scope.dtype(past_key) == "int8"
    spec = Attention(
        heads, int(kv_heads), Turn(int(size), 2 * int(scope.shape(tables[0])[1]) if turned else 0,
        bool(integer(node, "rotary_interleaved", 0))), scope.variant, "in_place" if scope.in_place else "append",
        codes=codes, packed=key is None,
        window=max(0, integer(node, "local_window_size", -1)), softcap=number(node, "softcap", 0.0),
        scale=number(node, "scale", 0.0),
    )  # fmt: skip
    keys = past if scope.in_place else _all_keys(scope, node, past, rows)
    scales = [_scales(item, int(kv_heads), int(size)) for item in node.inputs[12:14]] if codes else []
    new = [query] if key is None else [query, key, value]
    last = _within(scope, reshaped(scope, last, [batch]), 0 if scope.in_place else past, rows, keys)
    inputs = [
        *new,
        past_key,
        past_value,
        last,
        reshaped(scope, total, [1]),
        *tables,
    ]
    kind = "int8" if codes else "float32"
    cache = ([batch, kv_heads, keys, size], kind)
    result = ([batch, rows, heads * int(size)], "float32")
    places = [len(new), len(new) + 1] if scope.in_place else []
    return scope.call_several(
        spec, partial(attention, spec), [*inputs, *scales], [result, cache, cache], in_place=places
    )


def _all_keys(scope: Scope, node: ir.Node, past: Any, rows: Any) -> Any:
    """Length of the present, which must be the sum of the past and the new rows."""
    known = scope.content(node.inputs[6])
    keys = known.reshape(-1)[0] if known is not None else past + rows
    scope.add_up(keys, past, rows)
    return keys


def _within(scope: Scope, last: Expr, past: Any, rows: Any, keys: Any) -> Expr:
    """Last keys that exist, whatever the mask they were counted in says: nothing is read or written elsewhere."""
    from tvm import te, tirx

    def bounded(found: Any, past: Any, rows: Any, keys: Any) -> Any:
        least = tirx.if_then_else(past > 0, rows - 1, 0)
        most = tirx.Cast("int32", keys - 1)
        return te.compute(
            found.shape,
            lambda row: tirx.max(tirx.min(found[row], most), tirx.Cast("int32", least)),
            name="last",
        )

    return scope.builder.emit_te(bounded, last, *map(expression, (past, rows, keys)))


def _scales(value: ir.Value | None, kv_heads: int, size: int) -> Expr:
    """``[kv_heads, size]`` of a scale for all, for each head, or for each channel."""
    from tvm import relax

    if value is None or value.const_value is None:
        raise UnsupportedError("a cache of codes whose scales are no constants")
    array = value.const_value.numpy().astype(np.float32).reshape(-1)
    shaped = array.reshape(kv_heads, -1) if array.size > 1 else array
    return relax.const(np.broadcast_to(shaped, (kv_heads, size)).copy(), "float32")


def _rotary(scope: Scope, node: ir.Node) -> Expr:
    """RotaryEmbedding of ``[B, S, heads * size]`` or ``[B, heads, S, size]``."""
    from qcompiler.backends.tvm.kernels.rotary import Rotary, Turn, rotary

    source, positions, cosines, sines = scope.inputs(node)[:4]
    if integer(node, "is_packed_batching", 0):
        raise UnsupportedError("a rotation of packed sequences")
    shape, turned = scope.shape(source), 2 * int(scope.shape(cosines)[1])
    split = len(shape) == 4
    flat = _joined(scope, source) if split else source
    batch, rows, width = scope.shape(flat)
    heads = int(shape[1]) if split else integer(node, "num_heads", 0) or int(width) // turned
    spec = Rotary(
        heads, Turn(int(width) // heads, turned, bool(integer(node, "interleaved", 0))), scope.variant
    )
    places = _positions(scope, positions, batch, rows)
    inputs = [reshaped(scope, flat, [product([batch, rows]), width]), places, cosines, sines]
    result = scope.call(spec, partial(rotary, spec), inputs, [product([batch, rows]), width], "float32")
    result = reshaped(scope, result, [batch, rows, width])
    return _apart(scope, result, heads) if split else result


def _positions(scope: Scope, positions: Expr, batch: Any, rows: Any) -> Expr:
    """``[B * S]``; a single position is where every sequence starts."""
    from tvm import relax

    if len(scope.shape(positions)) == 1:
        positions = scope.emit(relax.op.add(relax.op.arange(0, rows, 1, "int64"), positions))
        positions = reshaped(scope, positions, [1, rows])
    return reshaped(scope, broadcast(scope, positions, [batch, rows]), [product([batch, rows])])


CONVERTERS: dict[str, Converter] = {
    "Attention": _attention,
    "RotaryEmbedding": _rotary,
    "com.microsoft::GroupQueryAttention": _group_query_attention,
    "com.microsoft::RotaryEmbedding": _rotary,
}
