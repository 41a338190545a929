"""In which order the weighted nodes of a segment must be served, so that each sees inputs that are final."""

from __future__ import annotations

from collections import defaultdict

import onnx_ir as ir

from qcompiler.graph.recurrent import recurrent_weights
from qcompiler.graph.weighted import weighted
from qcompiler.sequential.reads import reads, with_inner


def weighted_levels(model: ir.Model, scope: frozenset[str] | None = None) -> tuple[frozenset[str], ...]:
    """Part the nodes in ``scope`` (None: all) by how many of its weighted nodes stand one behind another before them.

    What a weighted node of a group reads depends on weighted nodes of earlier groups only: q, k and v, then o, then
    gate and up, then down.  Nodes of a subgraph go with the node that holds it.  Every group holds a weighted node,
    but for the only one of a scope that has none.
    """
    depths: dict[ir.Value, int] = {}
    groups: dict[int, set[str]] = defaultdict(set)
    served: set[int] = set()
    for node in model.graph:
        depth = max((depths.get(value, 0) for value in reads(node)), default=0)
        names = {str(inner.name) for inner in with_inner(node)}
        inside = names if scope is None else names & scope
        if inside:
            groups[depth] |= inside
        step = bool(inside) and any(_is_weighted(inner) for inner in with_inner(node))
        if step:
            served.add(depth)
        depths.update(dict.fromkeys(node.outputs, depth + step))
    last = max(served, default=0)
    for depth in [depth for depth in groups if depth > last]:
        groups[last] |= groups.pop(depth)
    return tuple(frozenset(groups[depth]) for depth in sorted(groups))


def _is_weighted(node: ir.Node) -> bool:
    return weighted(node) is not None or bool(recurrent_weights(node))
