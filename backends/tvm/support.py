"""What tvm-cpu executes in integers; anything else stays in float, for the reason given."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.backends.base import Support
from qcompiler.graph.weighted import weight_refusal, weighted

_FOLLOWS = Support(static=True, follows=True, output="required")
_MOVES = Support(static=True, follows=True, same_scale=True, output="required")

SUPPORT = {
    "Conv": Support(static=True, output="required"),
    **dict.fromkeys(("Add", "AveragePool", "GlobalAveragePool"), _FOLLOWS),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "Slice", "Concat"), _MOVES),
    "MatMul": Support(static=True, dynamic=True, output="never"),
    "Gemm": Support(static=True, dynamic=True, output="never"),
    "Gather": Support(weight_only=True),
}

_REASONS = {
    "ConvTranspose": "there is no integer ConvTranspose kernel",
    "LSTM": "recurrent networks are not imported",
    "GRU": "recurrent networks are not imported",
}


def support_of(node: ir.Node) -> Support:
    """What the generated kernels do with ``node``."""
    if node.domain not in ("", "ai.onnx"):
        return Support(reason=f"{node.domain}.{node.op_type} has no quantized form here")
    found = SUPPORT.get(node.op_type)
    if found is None:
        return Support(reason=_REASONS.get(node.op_type, "it is fused in float: no integer kernel"))
    if reason := weight_refusal(node):
        return Support(reason=reason)
    if not found.follows and weighted(node) is None:
        return Support(reason="its weight is not a constant of a supported layout")
    return found
