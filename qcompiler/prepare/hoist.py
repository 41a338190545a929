"""Branches that derive the same constant from a weight outside share it.

An exporter that writes a loop or an ``If`` repeats in every branch how, say, the gates of an LSTM weight are put
in order.  Folded where they stand these nodes would each make a copy of the weight; moved to the graph that owns
the weight, equal ones become one, and are folded there.
"""

from __future__ import annotations

from collections.abc import Hashable

import onnx_ir as ir

from qcompiler.graph.qdq import add_initializer
from qcompiler.prepare.fold import TIED_WEIGHT, is_constant


def hoist_constant_nodes(model: ir.Model) -> int:
    """Move nodes of subgraphs in place that read a shared weight of an outer graph and constants; return how many."""
    made: dict[Hashable, ir.Node] = {}
    hoisted = 0
    for node in list(model.graph.all_nodes()):
        home = _home(node)
        if home is None:
            continue
        key = (
            home.name,
            id(home),
            node.domain,
            node.op_type,
            _attributes(node),
            tuple(map(_content, node.inputs)),
        )
        if key not in made:
            made[key] = _copy_into(home, node)
        graph = node.graph
        assert graph is not None
        node.outputs[0].replace_all_uses_with(made[key].outputs[0])
        graph.remove(node, safe=True)
        hoisted += 1
    return hoisted


def _home(node: ir.Node) -> ir.Graph | None:
    """Return the graph that owns the shared weight ``node`` reads, if the node may move there."""
    if not is_constant(node) or len(node.outputs) != 1 or node.outputs[0].is_graph_output():
        return None
    if any(
        attribute.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        for attribute in node.attributes.values()
    ):
        return None
    large = [value for value in node.inputs if value is not None and _elements(value) >= TIED_WEIGHT]
    homes = {value.graph for value in large}
    home = next(iter(homes), None)
    if len(homes) != 1 or home is node.graph or not isinstance(home, ir.Graph):
        return None
    if not any(len(value.uses()) > 1 for value in large):
        return None
    return home


def _copy_into(home: ir.Graph, node: ir.Node) -> ir.Node:
    inputs = [
        value
        if value is None or value.const_value is None or value.graph is home
        else add_initializer(home, str(value.name), value.const_value.numpy())
        for value in node.inputs
    ]
    copy = ir.Node(
        node.domain,
        node.op_type,
        inputs,
        node.attributes.values(),
        name=node.name,
        metadata_props=dict(node.metadata_props),
    )
    old, new = node.outputs[0], copy.outputs[0]
    new.name, new.shape, new.type = f"{old.name}_shared", old.shape, old.type
    home.insert_before(home[0], copy)
    return copy


def _attributes(node: ir.Node) -> tuple[str, ...]:
    return tuple(sorted(f"{name}={attribute.value!r}" for name, attribute in node.attributes.items()))


def _content(value: ir.Value | None) -> Hashable:
    """Return what tells constants apart: small ones by content, large ones by identity."""
    if value is None or value.const_value is None or _elements(value) >= TIED_WEIGHT:
        return id(value)
    tensor = value.const_value
    return tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes()


def _elements(value: ir.Value | None) -> int:
    return 0 if value is None or value.const_value is None else int(value.const_value.size)
