"""Changing constants and duplicating nodes without anyone else noticing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.qdq import ORIGIN, add_initializer, graph_of

Reader = tuple[ir.Node, int]
"""A node and the index of the input through which it reads a value."""


def name_of(node: ir.Node) -> str:
    """``LayerNormalization 'norm1'``, for reports."""
    return f"{node.op_type} {node.name!r}"


def set_constant(node: ir.Node, index: int, array: npt.NDArray[Any]) -> None:
    """Let ``node`` read ``array`` in the place of a constant, cast to its dtype.

    A constant that only this input reads is changed where it is; one with other readers stays as it is for
    them, and this node gets its own.
    """
    old = node.inputs[index]
    if old is None or old.const_value is None:
        raise AssertionError(f"input {index} of {name_of(node)} is no constant")
    cast = np.asarray(array).astype(old.const_value.dtype.numpy())
    if len(old.uses()) == 1 and not old.is_graph_output():
        old.const_value = ir.tensor(cast, dtype=old.const_value.dtype, name=old.name)
        old.shape = ir.Shape(cast.shape)
        return
    own = add_initializer(graph_of(old), f"{old.name}_scaled", cast)
    node.replace_input_with(index, own)


def copy_node(node: ir.Node, suffix: str) -> ir.Node:
    """Put a copy of ``node`` behind it: same inputs and attributes, the outputs in use only, unread."""
    graph = graph_of(node.outputs[0])
    taken = {other.name for other in graph}
    name = base = f"{node.name}_{suffix}"
    count = 1
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    metadata = {**node.metadata_props, ORIGIN: node.metadata_props.get(ORIGIN, node.name or "")}
    copy = ir.node(
        node.op_type,
        list(node.inputs),
        {key: attribute for key, attribute in node.attributes.items() if not attribute.is_ref()},
        domain=node.domain,
        version=node.version,
        name=name,
        metadata_props=metadata,
    )
    output, original = copy.outputs[0], node.outputs[0]
    output.name = f"{original.name}_{name.removeprefix(f'{node.name}_')}"
    output.shape, output.type = original.shape, original.type
    graph.insert_after(node, copy)
    return copy


def insert_mul(value: ir.Value, factor: npt.NDArray[Any]) -> ir.Value:
    """Put a Mul by a constant that broadcasts behind ``value`` and return its output; nobody reads it yet."""
    graph, name = graph_of(value), f"{value.name}_smoothed"
    dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
    constant = add_initializer(graph, f"{name}_factor", np.asarray(factor).astype(dtype))
    node = ir.node("Mul", [value, constant], name=f"{name}_Mul")
    output = node.outputs[0]
    output.name, output.shape, output.type = name, value.shape, value.type
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        graph.insert_before(graph[0], node)
    return output
