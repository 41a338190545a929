"""Reading an activation in the order in which a weight's rows are stored."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.graph.weighted import array_of
from qcompiler.numerics.gptq import Order

ORDERED = "qcompiler.ordered"
"""Metadata key of a Gather that permutes the channels of an activation for weights with rows in another order."""


def ordered(value: ir.Value, order: Order) -> ir.Value:
    """``value`` with its last axis gathered by ``order``; consumers of one activation and order share the node."""
    for use in value.uses():
        index = use.node.inputs[1] if ORDERED in use.node.metadata_props else None
        if index is not None and np.array_equal(array_of(index), order):
            return use.node.outputs[0]
    graph, name = graph_of(value), f"{value.name}_ordered"
    index_value = add_initializer(graph, f"{value.name}_order", order)
    node = ir.node("Gather", [value, index_value], {"axis": -1}, name=f"{name}_Gather")
    node.metadata_props[ORDERED] = "true"
    output = node.outputs[0]
    output.name, output.shape, output.type = name, value.shape, value.type
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        graph.insert_before(graph[0], node)
    return output
