"""What ONNX Runtime's CPU provider executes in integers, and where it pays.

Measured with onnxruntime 1.31.1; docs/decisions/0002 holds the figures.  A node that is not listed stays in
float for the reason given by :func:`support_of`.
"""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.backends.base import Support
from qcompiler.graph.weighted import weighted

_FOLLOWS = Support(static=True, follows=True, output="required")
_MOVES = Support(static=True, follows=True, same_scale=True, output="required")

SUPPORT: dict[str, Support] = {
    "Conv": Support(static=True, output="required", reason="ConvInteger is slower than float"),
    "MatMul": Support(static=True, dynamic=True),
    "Gemm": Support(static=True, dynamic=True),
    "Gather": Support(weight_only=True),
    "ConvTranspose": Support(weight_only=True, reason="there is no integer ConvTranspose kernel"),
    "LSTM": Support(weight_only=True),
    "GRU": Support(weight_only=True, reason="there is no integer GRU kernel"),
    **dict.fromkeys(
        ("Add", "Mul", "Sigmoid", "LeakyRelu", "Concat", "AveragePool", "GlobalAveragePool"), _FOLLOWS
    ),
    **dict.fromkeys(("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice"), _MOVES),
    **dict.fromkeys(("Expand", "Tile", "DepthToSpace"), _MOVES),
}

_MEASURED_SLOWER = {
    "Softmax": "0.24 of float's speed in integers",
    "LayerNormalization": "normalization has no integer kernel",
    "RMSNormalization": "normalization has no integer kernel",
    "BatchNormalization": "fold it into a Conv instead",
    "Gelu": "no integer kernel",
    "Tanh": "no integer kernel",
    "Erf": "no integer kernel",
}


def support_of(node: ir.Node) -> Support:
    """What the CPU provider does with ``node``, with a reason wherever it stays in float."""
    if node.domain not in ("", "ai.onnx"):
        return Support(reason=f"{node.domain}.{node.op_type} has no quantized form here")
    support = SUPPORT.get(node.op_type)
    if support is None:
        return Support(reason=_MEASURED_SLOWER.get(node.op_type, "no integer kernel"))
    if node.op_type in ("MatMul", "Gemm") and weighted(node) is None:
        return Support(reason=_no_weight_reason(node))
    if node.op_type in ("Conv", "ConvTranspose", "Gather") and weighted(node) is None:
        return Support(reason="its weight is not a constant of a supported layout")
    return support


def _no_weight_reason(node: ir.Node) -> str:
    if node.op_type == "Gemm" and any(node.attributes.get(name) for name in ("alpha", "beta", "transA")):
        return "a Gemm with alpha, beta or transA has no integer form"
    return "both operands are activations: the integer product gains nothing after quantizing both"
