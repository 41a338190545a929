"""What tvm-cuda executes on codes; anything else stays in float, for the reason given."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.backends.base import Support
from qcompiler.graph.weighted import weight_refusal, weighted

SUPPORT = {
    "Conv": Support(static=True),
    "MatMul": Support(static=True, dynamic=True, output="never"),
    "Gemm": Support(static=True, dynamic=True, output="never"),
    "Gather": Support(weight_only=True),
}


def support_of(node: ir.Node) -> Support:
    """What the definitions do with ``node``."""
    if node.domain not in ("", "ai.onnx"):
        return Support(reason=f"{node.domain}.{node.op_type} has no quantized form here")
    found = SUPPORT.get(node.op_type)
    if found is None:
        return Support(reason="it is fused in float: no integer kernel")
    if reason := weight_refusal(node):
        return Support(reason=reason)
    if weighted(node) is None:
        return Support(reason="its weight is not a constant of a supported layout")
    return found
