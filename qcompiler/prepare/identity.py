"""Nodes that hand their input on unchanged: Identity, and Dropout at inference."""

from __future__ import annotations

import onnx_ir as ir


def remove_identities(model: ir.Model) -> int:
    """Remove them in place, in subgraphs too, and return how many.

    One that gives a graph output its name stays if its input has another public name or comes from outside.
    """
    return sum(_remove(node) for node in list(model.graph.all_nodes()) if _is_identity(node))


def _is_identity(node: ir.Node) -> bool:
    if node.domain != "" or not node.inputs or node.inputs[0] is None:
        return False
    if node.op_type == "Identity":
        return True
    if node.op_type != "Dropout":
        return False
    mask_used = any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    return not mask_used and not _trains(node)


def _trains(node: ir.Node) -> bool:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if training is None:
        return False
    return training.const_value is None or bool(training.const_value.numpy())


def _remove(node: ir.Node) -> bool:
    value, output, graph = node.inputs[0], node.outputs[0], node.graph
    assert value is not None
    assert graph is not None
    if output.is_graph_output():
        producer = value.producer()
        if producer is None or producer.graph is not graph or value.is_graph_output():
            return False
        name = output.name
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        value.name = name
    else:
        output.replace_all_uses_with(value)
        graph.remove(node, safe=True)
    value.type = value.type or output.type
    value.shape = value.shape or output.shape
    return True
