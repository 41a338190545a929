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
"""The first output has the element type of the first input; its shape stays unknown."""

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
    for output, source in _PAST.get(node.op_type, {}).items():
        value = node.inputs[source] if source < len(node.inputs) else None
        if output < len(node.outputs):
            changed += _fill(node.outputs[output], value or first, shape=node.op_type in _SAME_SHAPE)
    return changed


def _fill(value: ir.Value, like: ir.Value, *, shape: bool) -> int:
    changed = 0
    if value.type is None and like.type is not None and value.name:
        value.type, changed = like.type, 1
    if shape and value.shape is None and like.shape is not None and value.name:
        value.shape, changed = like.shape.copy(), 1
    return changed
