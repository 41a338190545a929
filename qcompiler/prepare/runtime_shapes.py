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
    changed = 0
    first = node.inputs[0] if node.inputs else None
    if first is not None and first.type is not None and node.op_type in _SAME_SHAPE | _SAME_TYPE:
        changed += _set_type(node.outputs[0], first.type)
        if node.op_type in _SAME_SHAPE and node.outputs[0].shape is None and first.shape is not None:
            node.outputs[0].shape = first.shape.copy()
            changed += 1
    for output, source in _PAST.get(node.op_type, {}).items():
        value = node.inputs[source] if source < len(node.inputs) else None
        like = value if value is not None else first
        if output < len(node.outputs) and like is not None and like.type is not None:
            changed += _set_type(node.outputs[output], like.type)
    return changed


def _set_type(value: ir.Value, type_: ir.TypeProtocol) -> int:
    if value.type is not None or not value.name:
        return 0
    value.type = type_
    return 1
