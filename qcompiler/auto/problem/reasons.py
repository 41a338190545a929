"""Why nodes that hold a weight stay in float after a search: no choice is for them, or none was better."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx_ir as ir

from qcompiler.auto.facts import FLOAT, Assignment, Group, Problem
from qcompiler.auto.problem.groups import find_groups, weights_of
from qcompiler.backends.base import Target
from qcompiler.graph.weighted import layout_refusal, weight_refusal, weighted
from qcompiler.low_bit.readers import Selection
from qcompiler.pipeline.base import PassContext

NONE_BETTER = "no choice was better within the bounds of the search"
NONE_FOR_IT = "no choice is for it: "


def why_float(
    problem: Problem,
    reference: ir.Model,
    selected: frozenset[str],
    target: Target,
    assignment: Assignment,
) -> dict[str, str]:
    """Reasons by the name of the node, of those that hold a weight and are in float.

    Args:
        problem: what was decided.
        reference: the prepared model.
        selected: nodes that may be quantized.
        target: what the model runs on.
        assignment: what was found.
    """
    nodes = {str(node.name): node for node in reference.graph.all_nodes()}
    context = PassContext(reference, reference, selected, target)
    found = dict(_without_group(problem, nodes, reference, selected))
    for group, row in zip(problem.groups, problem.allowed, strict=True):
        if assignment.get(group.name, FLOAT) == FLOAT:
            reason = NONE_BETTER if row[1:].any() else NONE_FOR_IT + _refusal(group, nodes, context)
            found |= dict.fromkeys(group.nodes, reason)
    return found


def _without_group(
    problem: Problem, nodes: Mapping[str, ir.Node], reference: ir.Model, selected: Collection[str]
) -> Mapping[str, str]:
    """Of nodes that nothing was decided about: the user's will, or their weight."""
    decided = {name for group in problem.groups for name in group.nodes}
    found = {}
    for group in find_groups(reference, frozenset(nodes)):
        excluded = [name for name in group.nodes if name not in selected]
        for name in group.nodes:
            if name not in decided and excluded:
                mine = name in excluded
                found[name] = (
                    "excluded by the user" if mine else f"{excluded[0]} is excluded and shares its weight"
                )
    for name, node in nodes.items():
        if not weights_of(node) and (reason := weight_refusal(node) or layout_refusal(node)):
            found[name] = NONE_FOR_IT + reason
    return found


def _refusal(group: Group, nodes: Mapping[str, ir.Node], context: PassContext) -> str:
    """Why no choice is for all nodes of a group, in the words of the first that says it."""
    said = [reason for name in group.nodes for reason in _of_node(nodes[name], context)]
    shared = "nodes that share its weight can take none together" if len(group.nodes) > 1 else ""
    return "; ".join(dict.fromkeys(said)) or shared or "none that could be built takes it"


def _of_node(node: ir.Node, context: PassContext) -> list[str]:
    """In integers, and in few bits."""
    support, view = context.target.support(node), weighted(node)
    found = []
    if not (support.dynamic or support.weight_only):
        inside = node.graph is not context.model.graph
        if support.static and inside:
            found.append("it is inside a subgraph, where its activations cannot be calibrated")
        elif not support.static:
            found.append(support.reason or f"{node.op_type} in int8 gains nothing on this target")
    if view is not None and (reason := Selection().refusal(view, context)):
        found.append(reason)
    elif node.op_type == "Conv" and found:
        found.append("formats of few bits are for products and tables")
    return found
