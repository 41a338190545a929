"""Whatever depends on constants alone is computed when the model is compiled: weights that no kernel reads as codes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.constant_value import constant_value
from qcompiler.graph.qdq import add_initializer
from qcompiler.graph.weighted import is_constant


def expand_constants(model: ir.Model) -> list[str]:
    """Replace values that never change by constants; return the names of nodes that read dequantized weights."""
    imports = dict(model.graph.opset_imports)
    fixed: set[ir.Value] = set()
    for node in model.graph:
        if _is_fixed(node, fixed):
            fixed.update(node.outputs)
    readers: list[str] = []
    for value in [value for value in fixed if _is_last(value, fixed)]:
        array = constant_value(value, imports)
        if array is None:
            continue
        maker = value.producer()
        if maker is not None and maker.op_type == "DequantizeLinear":
            readers += [str(use.node.name) for use in value.uses()]
        constant = add_initializer(model.graph, f"{value.name}_expanded", np.asarray(array))
        value.replace_all_uses_with(constant)
    return readers


def _is_fixed(node: ir.Node, fixed: set[ir.Value]) -> bool:
    if (
        any(attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values())
        or not node.inputs
    ):
        return False
    if any(output.is_graph_output() for output in node.outputs) or node.op_type.startswith("Random"):
        return False
    return all(value is None or is_constant(value) or value in fixed for value in node.inputs)


def _is_last(value: ir.Value, fixed: set[ir.Value]) -> bool:
    """Whether something that does change reads it."""
    return any(not set(use.node.outputs) <= fixed for use in value.uses())
