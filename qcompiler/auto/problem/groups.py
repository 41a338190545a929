"""Which nodes of a model are decided together: one that holds a weight, or all that share one."""

from __future__ import annotations

import math

import onnx_ir as ir

from qcompiler.auto.facts import Group
from qcompiler.graph.qdq import ORIGIN
from qcompiler.graph.recurrent import recurrent_weights
from qcompiler.graph.weighted import shape_of, weighted


def find_groups(model: ir.Model, selected: frozenset[str]) -> tuple[Group, ...]:
    """Groups of the nodes of a prepared model that hold a float weight, in graph order.

    Nodes that share a weight, or the name that they have in the user's file, are in one group.

    Args:
        model: a prepared model.
        selected: names of nodes that may be quantized; a group with another in it is left out.
    """
    nodes = [node for node in model.graph.all_nodes() if weights_of(node)]
    places = {node: at for at, node in enumerate(nodes)}
    leader = {node: node for node in nodes}
    first: dict[object, ir.Node] = {}
    for node in nodes:
        for key in (*weights_of(node), origin_of(node)):
            known = first.setdefault(key, node)
            old, new = _root(leader, node), _root(leader, known)
            if old is not new:
                early, late = sorted((old, new), key=places.__getitem__)
                leader[late] = early
    members: dict[ir.Node, list[ir.Node]] = {}
    for node in nodes:
        members.setdefault(_root(leader, node), []).append(node)
    return tuple(_group(found) for found in members.values() if all(node.name in selected for node in found))


def origin_of(node: ir.Node) -> str:
    """The name that a node has in the user's file."""
    return node.metadata_props.get(ORIGIN, str(node.name))


def weights_of(node: ir.Node) -> tuple[ir.Value, ...]:
    """The float weights that a node holds."""
    view = weighted(node)
    return (view.weight,) if view is not None else tuple(value for _, value in recurrent_weights(node))


def _root(leader: dict[ir.Node, ir.Node], node: ir.Node) -> ir.Node:
    while leader[node] is not node:
        node = leader[node]
    return node


def _group(nodes: list[ir.Node]) -> Group:
    weights = {value for node in nodes for value in weights_of(node)}
    return Group(
        str(nodes[0].name),
        tuple(str(node.name) for node in nodes),
        nodes[0].op_type,
        sum(math.prod(shape_of(value)) for value in weights),
    )
