"""Losses of many weight-only choices from two that are measured, by the energy of their errors.

    energy = tr(E' G E) = mean over rows x of |x E|^2,   E = W_q - W,   G = X'X / rows

is what a weight's error adds to the output of its product.  To second order the loss is linear in it, with a factor
that belongs to the group; so of every group the choices of the most and the fewest bits are measured and the others
lie between them on a straight line in logarithms, whose slope is 1 where both are small.

A choice that quantizes activations as another does and has weights of fewer bits (``int8_static:weights=int4``) loses
what that one loses, and what the rise of its weights' energy adds.

Only products whose inputs are observed have a Gram matrix G; tables, convolutions and weights that are shared with a
table are measured choice by choice, and so is a model whose matrices would take too much memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcompiler.auto.facts import Group, Problem, Workbench
from qcompiler.calibration.collect import collect
from qcompiler.calibration.requests import Gram
from qcompiler.data.feeds import Array, Feed
from qcompiler.graph.weighted import WeightedNode, weighted_nodes
from qcompiler.low_bit.readers import PRODUCTS

GRAM_BYTES = 512 << 20
"""Of all Gram matrices together; where they would take more, every choice is measured."""

FEWEST = 3
"""Weight-only choices from which two measured ones save anything."""


SLOPES = (0.5, 2.0)
"""Of the line in logarithms: beyond them one of the two losses is noise."""


@dataclass(frozen=True)
class Anchors:
    """The two choices that are measured, by index."""

    most_bits: int
    fewest_bits: int

    def __contains__(self, column: int) -> bool:
        return column in (self.most_bits, self.fewest_bits)


def anchors_of(problem: Problem) -> Anchors | None:
    """Which two weight-only choices are measured; None where there are too few."""
    columns = [column for column, choice in enumerate(problem.choices) if choice.weight_only and choice.words]
    if len(columns) < FEWEST:
        return None
    bits = [problem.choices[column].bits for column in columns]
    found = Anchors(columns[int(np.argmax(bits))], columns[int(np.argmin(bits))])
    return found if found.most_bits != found.fewest_bits else None


class Energies:
    """Energies of errors of the groups whose inputs are observed."""

    def __init__(self, problem: Problem, bench: Workbench, feeds: Sequence[Feed]) -> None:
        views = {view.name: view for view in weighted_nodes(bench.reference)}
        self._views: dict[str, tuple[WeightedNode, ...]] = {
            group.name: tuple(views[node] for node in group.nodes)
            for group in problem.groups
            if all(_is_observed(views.get(node), bench) for node in group.nodes)
        }
        self._feeds, self._bench = feeds, bench
        self._grams: Mapping[str, Array] | None = None
        values = {self._value(view): view for group in self._views.values() for view in group}
        if sum(4 * view.matrix().shape[0] ** 2 for view in values.values()) > GRAM_BYTES:
            self._views = {}

    def covers(self, group: Group) -> bool:
        """Whether a group's errors have an energy."""
        return group.name in self._views

    def of(self, group: Group, errors: Mapping[str, Array]) -> float:
        """Energy of a group, of errors ``W_q - W`` laid out as the stored weight, by name of the node.

        A weight that several nodes of the group read counts for each of them.
        """
        total = 0.0
        for view in self._views[group.name]:
            error = np.moveaxis(errors[view.name], view.output_axis, -1).astype(np.float32)
            gram = self._gram(self._value(view))
            total += float(np.einsum("kn,kn->", gram @ error, error, dtype=np.float64))
        return max(total, 0.0)

    def _gram(self, value: str) -> Array:
        if self._grams is None:
            values = dict.fromkeys(self._value(view) for group in self._views.values() for view in group)
            requests = [Gram(name) for name in values]
            found = collect(self._bench.reference, requests, self._feeds, threads=self._bench.threads)
            self._grams = {request.value: found.gram(request)[0] for request in requests}
        return self._grams[value]

    @staticmethod
    def _value(view: WeightedNode) -> str:
        return str(view.activation.name)


def between(energy: float, low: tuple[float, float], high: tuple[float, float]) -> float:
    """The loss at ``energy``, on the line in logarithms through two measured ``(energy, loss)``.

    Beyond the two it goes on from the nearer one.  Without two positive ones it is proportional to the energy.
    """
    known = sorted(point for point in (low, high) if point[0] > 0 and point[1] > 0)
    if energy <= 0 or not known:
        return 0.0
    near = min(known, key=lambda point: abs(math.log(point[0] / energy)))
    slope = 1.0
    if len(known) == 2 and known[1][0] > 1.01 * known[0][0]:
        slope = math.log(known[1][1] / known[0][1]) / math.log(known[1][0] / known[0][0])
        slope = min(max(slope, SLOPES[0]), SLOPES[1])
    return float(near[1] * (energy / near[0]) ** slope)


def ordered_columns(problem: Problem, anchors: Anchors | None) -> list[int]:
    """Columns of choices other than float, those that are measured first."""

    def follows(column: int) -> bool:
        alone = problem.choices[column].weight_only or problem.wide(column) is not None
        return anchors is not None and alone and column not in anchors

    return sorted((column for column, choice in enumerate(problem.choices) if choice.words), key=follows)


def _is_observed(view: WeightedNode | None, bench: Workbench) -> bool:
    """Whether the runtime can observe what a product multiplies."""
    return (
        view is not None
        and view.node.op_type in PRODUCTS
        and {view.node.graph, view.activation.graph} == {bench.reference.graph}
    )
