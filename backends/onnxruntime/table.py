"""What ONNX Runtime's CPU provider executes in integers, and where it pays.

Measured with onnxruntime 1.31.1; docs/decisions/0002 holds the figures.  A node that is not listed stays in
float for the reason given by :func:`support_of`.
"""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.backends.base import Support
from qcompiler.backends.onnxruntime import lower_lstm
from qcompiler.graph.placement import ACTIVATIONS, settled
from qcompiler.graph.weighted import is_constant, weight_refusal, weighted

_FOLLOWS = Support(static=True, follows=True, output="required")
_MOVES = Support(static=True, follows=True, same_scale=True, output="required")

SUPPORT: dict[str, Support] = {
    "Conv": Support(static=True, output="required", reason="ConvInteger is slower than float"),
    "MatMul": Support(static=True, dynamic=True),
    "Gemm": Support(static=True, dynamic=True),
    "Gather": Support(weight_only=True),
    "ConvTranspose": Support(weight_only=True, reason="there is no integer ConvTranspose kernel"),
    "LSTM": Support(dynamic=True, weight_only=True),
    "GRU": Support(weight_only=True, reason="there is no integer GRU kernel"),
    **dict.fromkeys(
        ("Add", "Mul", "Sigmoid", "LeakyRelu", "Concat", "AveragePool", "GlobalAveragePool"), _FOLLOWS
    ),
    **dict.fromkeys(("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice"), _MOVES),
    **dict.fromkeys(("Expand", "Tile", "DepthToSpace"), _MOVES),
}

THIN_ENTRY = 32
"""Products per output of a first Conv up to which it stays in float (27 for 3x3 on RGB)."""

_ENTRY_REASON = "a thin first Conv (and a depthwise one behind it) is faster in float: 13 % on MobileNetV1"

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
    if reason := weight_refusal(node):
        return Support(reason=reason)
    if node.op_type in ("MatMul", "Gemm") and weighted(node) is None:
        return Support(reason=_no_weight_reason(node))
    if node.op_type == "Conv" and _is_entry(node):
        return Support(reason=_ENTRY_REASON)
    if node.op_type == "LSTM" and (reason := lower_lstm.refusal(node)):
        return Support(weight_only=True, reason=reason)
    if node.op_type in ("Conv", "ConvTranspose", "Gather") and weighted(node) is None:
        return Support(reason="its weight is not a constant of a supported layout")
    return support


def _is_entry(node: ir.Node) -> bool:
    """Whether a Conv is the thin first one of a network, or the depthwise one right behind it."""
    if _is_thin_first(node):
        return True
    view, source = weighted(node), _behind_activation(node.inputs[0])
    return view is not None and view.is_depthwise and source is not None and _is_thin_first(source)


def _is_thin_first(node: ir.Node) -> bool:
    view = weighted(node)
    if node.op_type != "Conv" or view is None or not view.activation.is_graph_input():
        return False
    readers = [use.node.op_type for use in settled(view.output).uses()]
    return view.matrix().shape[0] <= THIN_ENTRY and readers == ["Conv"]


def _behind_activation(value: ir.Value | None) -> ir.Node | None:
    """The node that makes a value, seen through Relu and Clip."""
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type in ACTIVATIONS:
        return _behind_activation(producer.inputs[0])
    return producer


def _no_weight_reason(node: ir.Node) -> str:
    if node.op_type == "Gemm" and any(node.attributes.get(name) for name in ("alpha", "beta", "transA")):
        return "a Gemm with alpha, beta or transA has no integer form"
    if node.op_type == "Gemm" and is_constant(node.inputs[1]):
        return "a Gemm with a bias per row has no integer form"
    return "both operands are activations: the integer product gains nothing after quantizing both"
