"""Which group a node's time belongs to, and which groups are neighbours, in the prepared float model.

A node that no group decides about (an activation, a sum, a soft maximum) runs in integers or in float as those around
it do, so its time belongs to the nearest groups before it, in equal parts; where there is none, to the nearest behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.auto.facts import Group, Workbench
from qcompiler.data.feeds import Feed

Step = Callable[[ir.Node], Iterable[ir.Node]]


class Homes:
    """Groups, by index, of the nodes of a model."""

    def __init__(self, model: ir.Model, groups: Sequence[Group]) -> None:
        self._own = {node: row for row, group in enumerate(groups) for node in group.nodes}
        self._known: dict[str, tuple[int, ...]] = {}
        nodes = list(model.graph.all_nodes())
        for node in nodes:
            self._known[str(node.name)] = self._found(node)
        self.edges = self._edges(nodes)
        """Pairs of groups of which the second reads what the first gives, perhaps through other nodes."""

    def of(self, node: str) -> tuple[int, ...]:
        """Groups that a node of the user's file belongs to; empty for none."""
        return self._known.get(node, ())

    def __contains__(self, node: str) -> bool:
        return node in self._known

    def _found(self, node: ir.Node) -> tuple[int, ...]:
        if str(node.name) in self._own:
            return (self._own[str(node.name)],)
        return self._nearest(node, _before) or self._nearest(node, _behind)

    def _nearest(self, node: ir.Node, step: Step) -> tuple[int, ...]:
        """The groups that are reached first on each way."""
        found: set[int] = set()
        seen, pending = {node}, list(step(node))
        while pending:
            current = pending.pop()
            if current in seen:
                continue
            seen.add(current)
            if str(current.name) in self._own:
                found.add(self._own[str(current.name)])
            else:
                pending += step(current)
        return tuple(sorted(found))

    def _edges(self, nodes: Sequence[ir.Node]) -> tuple[tuple[int, int], ...]:
        found = {
            (before, self._own[str(node.name)])
            for node in nodes
            if str(node.name) in self._own
            for before in self._nearest(node, _before)
        }
        return tuple(sorted(edge for edge in found if edge[0] != edge[1]))


def _before(node: ir.Node) -> list[ir.Node]:
    makers = (value.producer() for value in node.inputs if value is not None)
    return [maker for maker in makers if maker is not None]


def _behind(node: ir.Node) -> list[ir.Node]:
    return [use.node for value in node.outputs for use in value.uses()]


def float_shares(
    bench: Workbench, groups: Sequence[Group], feed: Feed
) -> tuple[npt.NDArray[np.float64], float]:
    """``[groups]``: the share of the float model's time on ONNX Runtime that own nodes take; and that of all others."""
    from qcompiler.measure.profile import node_of_profile_name, profile_nodes

    names = [str(node.name) for node in bench.reference.graph.all_nodes()]
    makers = {
        str(value.name): str(node.name)
        for node in bench.reference.graph.all_nodes()
        for value in node.outputs
    }
    own_nodes = {node: row for row, group in enumerate(groups) for node in group.nodes}
    own, total = np.zeros(len(groups)), 0.0
    for timed in profile_nodes(bench.float_path, feed, threads=bench.threads).values():
        total += timed.median_us
        node = node_of_profile_name(timed.name, names, makers)
        if node in own_nodes:
            own[own_nodes[node]] += timed.median_us
    return own / total, 1.0 - float(own.sum()) / total
