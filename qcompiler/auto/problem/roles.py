"""Groups that play the same part in other layers, such as all ``up_proj``: what a few show is told of the others.

Of one role are groups whose nodes have the same operators and weight shapes, names that differ in numbers alone, and
neighbours of the same operators: exporters that number all nodes give ``q_proj`` and ``o_proj`` one name.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.auto.facts import Group, Problem
from qcompiler.graph.weighted import WeightedNode, weighted_nodes

SAMPLED = 5
"""Groups of a role that are measured at most, evenly spread over its layers, the first and the last among them."""

_NUMBER = re.compile(r"\d+")
Key = tuple[object, ...]


@dataclass(frozen=True)
class Role:
    """Groups of one role.

    Attributes:
        rows: their indices, in graph order.
    """

    rows: tuple[int, ...]

    @property
    def middle(self) -> int:
        """The group in the middle."""
        return self.rows[len(self.rows) // 2]

    def sampled(self, most: int = SAMPLED) -> tuple[int, ...]:
        """Evenly spread ones, at most so many."""
        if len(self.rows) <= most:
            return self.rows
        return tuple(self.rows[at * (len(self.rows) - 1) // (most - 1)] for at in range(most))

    def spread(self, known: Mapping[int, float]) -> Mapping[int, float]:
        """A positive figure for every group, on lines in its logarithm between the groups that it is known of.

        Args:
            known: by index of the group; those that are not positive are passed over.
        """
        rows = [row for row in self.rows if known.get(row, 0.0) > 0]
        if not rows:
            return dict.fromkeys(self.rows, 0.0)
        places = [self.rows.index(row) for row in rows]
        found = np.exp(np.interp(np.arange(len(self.rows)), places, np.log([known[row] for row in rows])))
        return {row: float(value) for row, value in zip(self.rows, found, strict=True)}


def find_roles(problem: Problem, reference: ir.Model) -> tuple[Role, ...]:
    """The roles of all groups, in the order of their first ones."""
    views = {view.name: view for view in weighted_nodes(reference)}
    rows: dict[Key, list[int]] = defaultdict(list)
    for row, group in enumerate(problem.groups):
        rows[(_NUMBER.sub("#", group.name), *kind_of(group, views), *_neighbours(group, views))].append(row)
    return tuple(Role(tuple(each)) for each in rows.values())


def kind_of(group: Group, views: Mapping[str, WeightedNode]) -> Key:
    """What decides how many bytes each choice of a group takes: operators, and weights as they are stored."""
    found: list[object] = []
    for name in group.nodes:
        view = views.get(name)
        found.append(
            name if view is None else (view.node.op_type, view.weight_shape, view.output_axis, view.is_tied)
        )
    return tuple(found)


def _neighbours(group: Group, views: Mapping[str, WeightedNode]) -> Sequence[Key]:
    found: list[Key] = []
    for view in (views[name] for name in group.nodes if name in views):
        maker = view.activation.producer()
        readers = sorted(use.node.op_type for use in view.output.uses())
        beside = sorted(use.node.op_type for use in view.activation.uses())
        found.append(("" if maker is None else maker.op_type, *readers, "/", *beside))
    return found
