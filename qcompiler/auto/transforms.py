"""Which transforms are worth their nodes: settled by uniform models, before single groups are measured.

A transform changes what every choice costs, so it must be settled first.  Transforms leave the float model as it is, so
groups that stay in float lose nothing by it.  Where time counts, those that have nodes of their own become a choice of
single groups (``forms``); else the one that loses least stands before everything.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.auto.bounds import Settled
from qcompiler.auto.builds import Builds
from qcompiler.auto.corrections import PROBE, convolves_in_integers
from qcompiler.auto.facts import ORDER, Problem
from qcompiler.auto.judge import Judge
from qcompiler.auto.left_out import surrogate_of
from qcompiler.auto.problem.forms import changed_nodes, with_forms
from qcompiler.auto.variants import CORRECTION, PRODUCTS, Variant
from qcompiler.graph.side_branch import CannotSplitError, hidden_of
from qcompiler.graph.weighted import weighted_nodes

PROBES = ("int8_static", "int8_dynamic")
"""Choices by whose uniform models transforms are compared, the first that there is."""
FOR_PRODUCTS = ("smoothquant",)
FOR_HIDDEN = ("outlier_channels", "smoothquant,outlier_channels")
"""Where a function stands between two products."""
FOR_CONVOLUTIONS = ("cross_layer_equalization",)
WORTH = 0.9
"""Share of the loss without a transform above which one is not worth its nodes."""


@dataclass(frozen=True)
class Transformed:
    """What was settled.

    Attributes:
        problem: with forms of choices where a transform is one of single groups.
        variant: with the transform that stands before everything, if one does.
        said: what was compared, in words.
    """

    problem: Problem
    variant: Variant
    said: tuple[str, ...] = ()


def choose_transform(bench: Builds, judge: Judge, settled: Settled) -> Transformed:
    """Compare uniform models after transforms, and place the one that loses least."""
    problem = bench.problem
    names = [choice.name for choice in problem.choices]
    probes = [name for name in PROBES if name in names]
    if not probes or bench.samples.calibration is None:
        return Transformed(problem, Variant())
    single = _times_count(settled)
    found = _Comparison(bench, judge)
    probe = min(probes, key=lambda name: found.loss("", name)) if single else probes[0]
    candidates = _candidates(problem, bench.reference, probe)
    best = min(("", *candidates), key=lambda before: found.loss(before, probe))
    chosen = best if found.loss(best, probe) < WORTH * found.loss("", probe) else ""
    said = tuple(found.said) if candidates else ()
    if single and chosen and set(chosen.split(",")) <= set(ORDER):
        widened = with_forms(problem, bench.reference, found.changed(chosen, probe), PROBES)
        return Transformed(widened, Variant(), (*said, f"{chosen}: a choice of each node"))
    return Transformed(problem, Variant(chosen), said)


@dataclass
class _Comparison:
    """Uniform models of one choice after some transforms, each measured once and remembered."""

    bench: Builds
    judge: Judge

    def __post_init__(self) -> None:
        self._losses: dict[tuple[str, str], tuple[float, str]] = {}

    @property
    def said(self) -> list[str]:
        """What was measured, in words."""
        losses = self._losses.items()
        return [
            f"{','.join(filter(None, (*pair, self._after(pair[1]))))}: {words}" for pair, (_, words) in losses
        ]

    def loss(self, before: str, probe: str) -> float:
        """The surrogate loss of a uniform model; infinite where it cannot be built."""
        if (before, probe) not in self._losses:
            self.bench.tell("comparing transforms", len(self._losses))
            uniform = self.bench.problem.uniform(probe)
            self._losses[before, probe] = surrogate_of(
                self.judge, uniform, Variant(before, self._after(probe))
            )
        return self._losses[before, probe][0]

    def _after(self, probe: str) -> str:
        """A correction will stand behind convolutions, and makes good some of what a transform would."""
        return CORRECTION if probe == PROBE and convolves_in_integers(self.bench.problem) else ""

    def changed(self, before: str, probe: str) -> dict[str, frozenset[str]]:
        """Names of the nodes that each transform changed."""

        def look() -> dict[str, npt.NDArray[np.str_]]:
            built = self.bench.build_variant(self.bench.problem.uniform(probe), Variant(before))
            return {name: np.array(sorted(nodes)) for name, nodes in changed_nodes(built.passes).items()}

        known = self.bench.journal.recall(f"changed/{before}/{probe}", look)
        return {name: frozenset(map(str, nodes)) for name, nodes in known.items()}


def _times_count(settled: Settled) -> bool:
    """Whether the time that transforms take is worth a choice for every group."""
    bounds = settled.bounds
    bounded = bounds.max_latency_ms is not None or bounds.max_latency_ratio is not None
    return settled.prefer == "speed" or (bounded and settled.prefer == "accuracy")


def _candidates(problem: Problem, reference: ir.Model, probe: str) -> Sequence[str]:
    at = problem.choice(probe)
    groups = [group for group, row in zip(problem.groups, problem.allowed, strict=True) if row[at]]
    ops = {group.op_type for group in groups}
    names = {node for group in groups for node in group.nodes}
    return (
        *(FOR_PRODUCTS if ops & PRODUCTS else ()),
        *(FOR_HIDDEN if _has_hidden(reference, names) else ()),
        *(FOR_CONVOLUTIONS if "Conv" in ops else ()),
    )


def _has_hidden(reference: ir.Model, names: Collection[str]) -> bool:
    """Whether outlier channels can be taken out anywhere."""
    for view in weighted_nodes(reference):
        if view.name in names and view.node.op_type in PRODUCTS:
            try:
                hidden_of(view)
            except CannotSplitError:
                continue
            return True
    return False
