"""Names by which a user's ``--include`` and ``--exclude`` reach a node, whatever became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph.qdq import ORIGIN


@dataclass(frozen=True)
class NodeName:
    """Name of a node, and the name that its ancestor has in the user's file."""

    name: str
    origin: str


def name_nodes(model: ir.Model) -> None:
    """Give every node a unique, stable name, ``{op_type}_{index}`` where it has none, and note it as origin."""
    _make_unique(model.graph.all_nodes(), set())
    for node in model.graph.all_nodes():
        node.metadata_props.setdefault(ORIGIN, str(node.name))
    for function in model.functions.values():
        _make_unique(function.all_nodes(), set())


def name_values(model: ir.Model) -> None:
    """Make names of values unique over all subgraphs; those of the graph's inputs and outputs come first."""
    taken = {value.name for value in (*model.graph.inputs, *model.graph.outputs)}
    public = {*model.graph.inputs, *model.graph.outputs}
    for graph in model.graphs():
        values = [*graph.inputs, *graph.initializers.values()]
        values += [value for node in graph for value in node.outputs]
        for value in dict.fromkeys(values):
            if value in public or value.name == "":
                continue
            if value.name is None or value.name in taken:
                value.name = _free(value.name or "value", taken)
            taken.add(value.name)


def names_by_value(model: ir.Model) -> Mapping[str, NodeName]:
    """Return for each value's name the node that makes it, to be remembered over a rewrite."""
    return {
        str(value.name): NodeName(str(node.name), node.metadata_props.get(ORIGIN, str(node.name)))
        for node in model.graph.all_nodes()
        for value in node.outputs
        if value.name
    }


def adopt_names(model: ir.Model, names: Mapping[str, NodeName]) -> None:
    """Give nodes that a rewrite made the name of the node whose value they make now.

    Values keep their names when a library replaces a node; a node behind which no old value stands (it
    computes an intermediate result of the replacement) is named after the next old value that depends on it.
    """
    taken = {node.name for node in model.graph.all_nodes() if ORIGIN in node.metadata_props}
    for node in model.graph.all_nodes():
        if ORIGIN in node.metadata_props:
            continue
        old = _replaced(node, names)
        origin = old.origin if old is not None else f"{node.op_type}"
        node.metadata_props[ORIGIN] = origin
        node.name = (
            old.name
            if old is not None and old.name not in taken
            else _free(f"{origin}/{node.op_type}", taken)
        )
        taken.add(node.name)


def _replaced(node: ir.Node, names: Mapping[str, NodeName]) -> NodeName | None:
    pending, seen = [node], {node}
    while pending:
        current = pending.pop(0)
        for value in current.outputs:
            if value.name is not None and value.name in names:
                return names[value.name]
        for successor in current.successors():
            if successor not in seen:
                seen.add(successor)
                pending.append(successor)
    return None


def _make_unique(nodes: Iterable[ir.Node], taken: set[str | None]) -> None:
    nodes = list(nodes)
    given = Counter(node.name for node in nodes if node.name)
    taken |= set(given)
    seen: set[str] = set()
    for index, node in enumerate(nodes):
        if not node.name:
            node.name = _free(f"{node.op_type}_{index}", taken)
        elif node.name in seen:
            node.name = _free(node.name, taken)
        taken.add(node.name)
        seen.add(node.name)


def _free(name: str, taken: set[str | None]) -> str:
    candidate, count = name, 0
    while candidate in taken:
        count += 1
        candidate = f"{name}_{count}"
    return candidate
