"""How a factor per channel passes fused attention: what it mixes is a sum of values, so scaled values scale it.

| op | values | heads |
|---|---|---|
| com.microsoft GroupQueryAttention | input 2, ``[B, T, KV * D]`` | num_heads, kv_num_heads |
| com.microsoft MultiHeadAttention | input 2, ``[B, T, H * D]`` | num_heads |
| Attention (opset 23) | input 2, ``[B, T, KV * D]`` or ``[B, KV, T, D]`` | q_num_heads, kv_num_heads, or axis 1 |

Where several heads of the query share a head of the values (query head h reads head ``h // (H / KV)``), their channels
must have one factor: they are *tied*.  A cache of values is read and written by others, who need it unscaled.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[np.floating[Any]]
Index = npt.NDArray[np.int64]

VALUES = 2
"""Input that holds the values."""


@dataclass(frozen=True)
class _Inputs:
    """Which other inputs and outputs of an attention stand in the way."""

    cache: tuple[int, ...]
    present: int
    bias: int | None = None


_MICROSOFT = {
    "GroupQueryAttention": _Inputs((3, 4), 2),
    "MultiHeadAttention": _Inputs((6, 7), 2, bias=3),
}
_STANDARD = {"Attention": _Inputs((4, 5), 2)}


def is_attention(node: ir.Node) -> bool:
    """Whether it is one of the ops above."""
    return _inputs_of(node) is not None


def factor_of_values(node: ir.Node, factor: Array) -> Array | str:
    """The factor that the values must have for the output to have ``factor``, or why there is none.

    Args:
        node: an attention (:func:`is_attention`).
        factor: broadcasts against the output from the right.

    Returns:
        An array that broadcasts against input ``VALUES`` from the right; a reason else.
    """
    if reason := _refusal(node):
        return reason
    heads, shared = _heads(node)
    if not heads or heads % max(shared, 1):
        return f"how many heads {node.op_type} {node.name!r} has is not known"
    while factor.ndim > 1 and factor.shape[0] == 1:
        factor = factor[0]
    if factor.ndim == 1 and _rank(node) == 4:
        return factor  # the same in every head
    if factor.ndim not in (1, 3) or factor.size % heads or (factor.ndim == 3) != (_rank(node) == 4):
        return f"the factor is not one per channel of {node.op_type} {node.name!r}"
    by_head = factor.reshape(shared, heads // shared, -1)
    if not np.all(by_head == by_head[:, :1]):
        return f"heads that share values in {node.op_type} {node.name!r} would need one factor"
    of_values = by_head[:, 0]
    return of_values.reshape(-1) if factor.ndim == 1 else of_values[:, np.newaxis]


def tied_channels(value: ir.Value, channels: int) -> Index | None:
    """Which of the ``channels`` along the last axis of ``value`` must be scaled alike: equal numbers, ``[channels]``.

    None where each can have its own factor, as far as an attention that makes ``value`` goes.
    """
    node = value.producer()
    if node is None or not is_attention(node) or value is not node.outputs[0] or _rank(node) != 3:
        return None
    heads, shared = _heads(node)
    if not shared or heads == shared or heads % shared or channels % heads:
        return None
    size = channels // heads
    kept = np.arange(shared * size).reshape(shared, 1, size)
    return np.broadcast_to(kept, (shared, heads // shared, size)).reshape(-1).astype(np.int64)


def _inputs_of(node: ir.Node) -> _Inputs | None:
    if node.domain == "com.microsoft":
        return _MICROSOFT.get(node.op_type)
    return _STANDARD.get(node.op_type) if node.domain in ("", "ai.onnx") else None


def _refusal(node: ir.Node) -> str:
    known = _inputs_of(node)
    if known is None:
        return f"no scale passes through {node.op_type} {node.name!r}"
    label = f"{node.op_type} {node.name!r}"
    if _input(node, 1) is None or _input(node, VALUES) is None:
        return f"{label} reads queries, keys and values packed into one"
    if known.bias is not None and _input(node, known.bias) is not None:
        return f"{label} adds a bias of its own to the values"
    present = node.outputs[known.present] if len(node.outputs) > known.present else None
    written = present is not None and (present.is_graph_output() or bool(present.uses()))
    if written or any(_input(node, index) is not None for index in known.cache):
        return f"{label} keeps its values in a cache, which others read unscaled"
    return ""


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _rank(node: ir.Node) -> int:
    """Axes of the output: 3 where heads are counted by attributes, else 4."""
    return 3 if node.domain == "com.microsoft" or "q_num_heads" in node.attributes else 4


def _heads(node: ir.Node) -> tuple[int, int]:
    """Heads of the query, and of the values; zero where not known."""
    if _rank(node) == 4:
        return _axis(_input(node, 0)), _axis(_input(node, VALUES))
    names = (
        ("q_num_heads", "kv_num_heads") if node.domain != "com.microsoft" else ("num_heads", "kv_num_heads")
    )
    heads = node.attributes[names[0]].as_int() if names[0] in node.attributes else 0
    return heads, node.attributes[names[1]].as_int() if names[1] in node.attributes else heads


def _axis(value: ir.Value | None) -> int:
    if value is None or value.shape is None or len(value.shape) != 4:
        return 0
    size = value.shape[1]
    return size if isinstance(size, int) else 0
