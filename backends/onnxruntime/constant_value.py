"""Values that a few nodes make of constants, computed by the runtime: scales that are quantized themselves."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.weighted import array_of, is_constant


def constant_value(value: ir.Value, opset_imports: dict[str, int]) -> npt.NDArray[np.generic] | None:
    """What ``value`` always is, or None where it depends on an input."""
    if is_constant(value):
        return array_of(value)
    nodes = _makers(value)
    if nodes is None:
        return None
    from qcompiler.backends.onnxruntime.session import open_model, session_options

    model = ir.Model(_copied(nodes, value, opset_imports), ir_version=10)
    return open_model(model, session_options(threads=1, optimize=False)).run({})[_RESULT]


_RESULT = "constant_value"


def _makers(value: ir.Value) -> list[ir.Node] | None:
    """The nodes that make ``value`` of constants, in the order in which they run."""
    node = value.producer()
    if node is None or any(
        attribute.type == ir.AttributeType.GRAPH for attribute in node.attributes.values()
    ):
        return None
    found: dict[ir.Node, None] = {}
    for source in node.inputs:
        before = [] if source is None or is_constant(source) else _makers(source)
        if before is None:
            return None
        found |= dict.fromkeys(before)
    return [*found, node]


def _copied(nodes: list[ir.Node], value: ir.Value, opset_imports: dict[str, int]) -> ir.Graph:
    copies: dict[ir.Value | None, ir.Value | None] = {None: None}
    constants = []
    for source in dict.fromkeys(source for node in nodes for source in node.inputs):
        if source is not None and is_constant(source):
            constants.append(ir.Value(name=source.name, const_value=source.const_value))
            constants[-1].type, constants[-1].shape = source.type, source.shape
            copies[source] = constants[-1]
    made = []
    for node in nodes:
        inputs = [copies[source] for source in node.inputs]
        attributes = [attribute for attribute in node.attributes.values() if isinstance(attribute, ir.Attr)]
        made.append(ir.Node(node.domain, node.op_type, inputs, attributes, num_outputs=len(node.outputs)))
        for old, new in zip(node.outputs, made[-1].outputs, strict=True):
            new.name = str(old.name)
            copies[old] = new
    result = copies[value]
    if result is None:
        raise AssertionError(f"{value.name} is made by none of its makers")
    result.name, result.type = _RESULT, value.type or ir.TensorType(ir.DataType.FLOAT)
    return ir.Graph(
        [], [result], nodes=made, initializers=constants, opset_imports=dict(opset_imports), name="constant"
    )
