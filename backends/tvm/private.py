"""Making nodes of the private domain, and the constants they read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.graph.qdq import ORIGIN, add_initializer, graph_of

Array = npt.NDArray[np.generic]


def constants(holder: ir.Value, name: str, arrays: Sequence[tuple[str, Array]]) -> list[ir.Value]:
    """Register arrays beside ``holder``."""
    graph = graph_of(holder)
    return [
        add_initializer(graph, f"{name}_{suffix}", np.ascontiguousarray(array)) for suffix, array in arrays
    ]


def replace(
    old: ir.Node, last: ir.Node, op_type: str, inputs: Sequence[ir.Value], attributes: dict[str, int | str]
) -> ir.Node:
    """Put one private node in the place of everything from ``old`` to ``last``; it keeps the name of ``old``."""
    graph, output = graph_of(old.outputs[0]), last.outputs[0]
    node = ir.node(op_type, list(inputs), dict(attributes), domain=DOMAIN, name=str(old.name))
    node.metadata_props.update(old.metadata_props)
    node.metadata_props.setdefault(ORIGIN, str(old.name))
    result = node.outputs[0]
    result.shape, result.type = output.shape, output.type or ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(last, node)
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    result.name = str(output.name)
    for item in dict.fromkeys((last, old)):
        graph.remove(item, safe=True)
    return node


def adopt(
    node: ir.Node, last: ir.Node, extra: Sequence[ir.Value], attributes: dict[str, int | str]
) -> ir.Node:
    """The same private node that also does what ``last``, the only reader of its result, does."""
    return replace(node, last, node.op_type, [*node.inputs, *extra], _attributes(node) | attributes)  # type: ignore[list-item]


def behind(node: ir.Node, op_type: str, operand: ir.Value, suffix: str) -> None:
    """Put an operator of two inputs between a node and everything that reads its result."""
    output = node.outputs[0]
    made = ir.node(op_type, [output, operand], name=f"{node.name}_{suffix}")
    made.outputs[0].shape, made.outputs[0].type = output.shape, output.type
    name = str(output.name)
    graph_of(output).insert_after(node, made)
    output.replace_all_uses_with(made.outputs[0], replace_graph_outputs=True)
    made.replace_input_with(0, output)
    output.name, made.outputs[0].name = f"{name}_before_{suffix}", name


def _attributes(node: ir.Node) -> dict[str, int | str]:
    found: dict[str, int | str] = {}
    for attribute in node.attributes.values():
        is_text = attribute.type == ir.AttributeType.STRING
        found[attribute.name] = attribute.as_string() if is_text else int(attribute.as_int())
    return found
