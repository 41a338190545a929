"""Types and shapes of what ONNX Runtime's own operators make, as far as passes need them.

Source: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

_SAME_SHAPE = frozenset(
    {
        "BiasAdd", "BiasGelu", "BiasSoftmax", "FastGelu", "GatedRMSNorm", "Gelu", "QuickGelu", "RotaryEmbedding",
        "ScaledSiLU", "SimplifiedLayerNormalization", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization",
    }
)  # fmt: skip
"""The first output is like the first input."""

_SAME_TYPE = frozenset(
    {
        "Attention", "DecoderMaskedMultiHeadAttention", "DynamicQuantizeMatMul", "FusedConv", "FusedGemm",
        "FusedMatMul", "GroupQueryAttention", "LinearAttention", "MatMulNBits", "MultiHeadAttention", "QMoE", "MoE",
    }
)  # fmt: skip
"""The first output has the element type of the first input; its shape where :func:`_shape` says so."""

_PAST: Mapping[str, Mapping[int, int]] = {
    "GroupQueryAttention": {1: 3, 2: 4},
    "MultiHeadAttention": {1: 6, 2: 7},
    "SkipLayerNormalization": {3: 0},
    "SkipSimplifiedLayerNormalization": {3: 0},
}
"""For further outputs: the input whose element type they have."""


def infer_runtime_operators(model: ir.Model) -> int:
    """Fill in types, and shapes where they are those of an input, in place; return how many outputs changed."""
    return sum(_infer(node) for node in model.graph.all_nodes() if _is_runtime_operator(node))


def _is_runtime_operator(node: ir.Node) -> bool:
    return node.domain == "com.microsoft" or node.op_type == "SimplifiedLayerNormalization"


def _infer(node: ir.Node) -> int:
    first = node.inputs[0] if node.inputs else None
    if first is None or first.type is None:
        return 0
    changed = 0
    if node.op_type in _SAME_SHAPE | _SAME_TYPE:
        changed += _fill(node.outputs[0], first, shape=node.op_type in _SAME_SHAPE)
        changed += _fill_shape(node.outputs[0], _shape(node, first))
    for output, source in _PAST.get(node.op_type, {}).items():
        value = node.inputs[source] if source < len(node.inputs) else None
        if output < len(node.outputs):
            changed += _fill(node.outputs[output], value or first, shape=node.op_type in _SAME_SHAPE)
            if node.op_type == "GroupQueryAttention":
                changed += _fill_shape(node.outputs[output], _cache_shape(value))
    return changed


def _shape(node: ir.Node, first: ir.Value) -> ir.Shape | None:
    """Shape of the first output: that of the first input but for the last dimension; None where it is not known."""
    if first.shape is None:
        return None
    last: int | ir.SymbolicDim | None = None
    if node.op_type == "MatMulNBits":
        last = _integer(node, "N")
    elif node.op_type == "DynamicQuantizeMatMul":
        columns = _input(node, 1)
        last = columns.shape[-1] if columns is not None and columns.shape is not None else None
    elif node.op_type == "GroupQueryAttention":
        last = _attended(node, first.shape[-1])
    return None if last is None else ir.Shape([*first.shape[:-1], last])


def _attended(node: ir.Node, width: int | ir.SymbolicDim) -> int | ir.SymbolicDim | None:
    """Width of what attention gives: of its queries, which a packed input holds before keys and values."""
    if _input(node, 1) is not None:
        return width
    heads, shared = _integer(node, "num_heads"), _integer(node, "kv_num_heads")
    if heads is None or shared is None or not isinstance(width, int):
        return None
    return width * heads // (heads + 2 * shared)


def _cache_shape(past: ir.Value | None) -> ir.Shape | None:
    """``[batch, heads, length, head size]`` of an unknown length, like the cache that came in."""
    if past is None or past.shape is None or len(past.shape) != 4:
        return None
    return ir.Shape([past.shape[0], past.shape[1], None, past.shape[3]])


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _integer(node: ir.Node, name: str) -> int | None:
    attribute = node.attributes.get(name)
    return None if attribute is None else int(attribute.as_int())


def _fill_shape(value: ir.Value, shape: ir.Shape | None) -> int:
    if shape is None or value.shape is not None or not value.name:
        return 0
    value.shape = shape
    return 1


def _fill(value: ir.Value, like: ir.Value, *, shape: bool) -> int:
    changed = 0
    if value.type is None and like.type is not None and value.name:
        value.type, changed = like.type, 1
    if shape and value.shape is None and like.shape is not None and value.name:
        value.shape, changed = like.shape.copy(), 1
    return changed
