"""Which values a node needs, and which nodes and constants stand behind values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir
from onnx_ir.traversal import RecursiveGraphIterator


def reads(node: ir.Node) -> Iterator[ir.Value]:
    """The inputs of a node of the main graph, and what its subgraphs capture of the main graph's values."""
    yield from (value for value in node.inputs if value is not None)
    for inner in _inside(node):
        yield from (value for value in inner.inputs if value is not None and value.graph is node.graph)


def with_inner(node: ir.Node) -> Iterator[ir.Node]:
    """A node and all nodes of its subgraphs."""
    yield node
    yield from _inside(node)


def ancestors(values: Iterable[ir.Value]) -> list[ir.Node]:
    """Every node of the main graph that any of the values depends on, in no particular order."""
    found: dict[ir.Node, None] = {}
    pending = list(values)
    while pending:
        node = pending.pop().producer()
        if node is None or node in found:
            continue
        found[node] = None
        pending.extend(reads(node))
    return list(found)


def state_of(values: Iterable[ir.Value]) -> list[object]:
    """All that decides what the values hold: two equal lists (by identity) mean that nothing upstream changed."""
    state: list[object] = []
    for node in ancestors(values):
        state.append(node)
        for value in reads(node):
            state += [value, value.const_value]
    return state


def same_state(before: list[object], after: list[object]) -> bool:
    return len(before) == len(after) and all(one is other for one, other in zip(before, after, strict=True))


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield from RecursiveGraphIterator(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            for graph in attribute.as_graphs():
                yield from RecursiveGraphIterator(graph)
