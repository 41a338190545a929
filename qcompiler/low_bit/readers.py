"""Which nodes of a model read a weight that can be stored in few bits, and which of them share one."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph.qdq import KEEP_FLOAT
from qcompiler.graph.recurrent import recurrent_weights
from qcompiler.graph.weighted import WeightedNode, layout_refusal, weight_refusal, weighted
from qcompiler.pipeline.base import PassContext

PRODUCTS = ("MatMul", "Gemm")
_PASSED_THROUGH = frozenset(
    {
        "Add",
        "Cast",
        "Div",
        "Identity",
        "LogSoftmax",
        "Mul",
        "Reshape",
        "Softmax",
        "Squeeze",
        "Tanh",
        "Unsqueeze",
    }
)
"""What may stand between the last product and an output of the model: bias, scaling, soft capping."""


@dataclass(frozen=True)
class Selection:
    """What the user wants of the nodes that read a weight.

    Attributes:
        embeddings: whether tables are quantized.
        lm_head: whether the product that makes an output of the model is.
    """

    embeddings: bool = True
    lm_head: bool = True

    def refusal(self, view: WeightedNode, context: PassContext) -> str:
        """Why a weighted node stays as it is; "" where it does not."""
        if KEEP_FLOAT in view.node.metadata_props:
            return view.node.metadata_props[KEEP_FLOAT]
        if view.name not in context.selected:
            return "excluded by the user"
        if view.node.op_type == "Gather":
            return "" if self.embeddings else "embeddings=false"
        if view.node.op_type == "ConvTranspose":
            return "a transposed convolution has no low-bit form; int8_dynamic stores it in 8 bits"
        if view.is_depthwise:
            return "a depthwise convolution has too few weights for a scale to pay"
        return "lm_head=false" if not self.lm_head and makes_output(view) else ""


def unreadable(node: ir.Node) -> str:
    """Why the constant weight of a node that is no :class:`WeightedNode` cannot be quantized; "" for none."""
    if recurrent_weights(node):
        return f"{node.op_type} has no low-bit form; int8_dynamic stores it in 8 bits"
    return weight_refusal(node) or layout_refusal(node)


def makes_output(view: WeightedNode) -> bool:
    """Whether an output of the model is this product's, but for a bias, scaling, soft capping or a soft maximum."""
    if view.node.op_type not in PRODUCTS:
        return False
    value = view.output
    while not value.is_graph_output():
        readers = [use.node for use in value.uses()]
        if len(readers) != 1 or readers[0].op_type not in _PASSED_THROUGH:
            return False
        value = readers[0].outputs[0]
    return True


def tied_to(view: WeightedNode) -> list[WeightedNode]:
    """All nodes, ``view`` too, that read the same weight with groups along the same axis, in the order of its uses."""
    found: list[WeightedNode] = []
    for use in view.weight.uses():
        behind = use.node.outputs[0].uses() if use.node.op_type == "Transpose" else ()
        for node in (use.node, *(inner.node for inner in behind)):
            other = weighted(node)
            if other is not None and other.weight is view.weight and other.output_axis == view.output_axis:
                found.append(other)
    return found


def can_be_observed(view: WeightedNode, model: ir.Model) -> bool:
    """Whether statistics can be had of the rows that a product multiplies."""
    return view.node.op_type in PRODUCTS and {view.node.graph, view.activation.graph} == {model.graph}
