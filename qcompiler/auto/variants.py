"""Whole pipelines for one assignment: how codes are solved, and which transforms stand before and behind.

Transforms change the whole graph, so they are no choice of single nodes: a few pipelines of the same assignment are
built and the best is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import onnx_ir as ir

from qcompiler.auto.facts import FLOAT, Assignment, Group, Problem
from qcompiler.auto.problem.choices import pass_of, rounded_words, sequential_words
from qcompiler.auto.recipe import literal_names, steps_of
from qcompiler.passes.int8_static import Int8Static
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.parse import parse_passes
from qcompiler.pipeline.selected import Selected

CORRECTION = "bias_correction"
PRODUCTS = frozenset({"MatMul", "Gemm"})
FEW = 0.01
"""Share of all weights up to which the solver of codes is not worth a comparison: a classifier's last product."""


@dataclass(frozen=True)
class Variant:
    """One way of making a pipeline of an assignment.

    Attributes:
        before: a transform in front, as ``--passes`` spells it; "" for none.
        after: what stands behind.
        solver: gptq sees the float model's inputs all at once, or goes segment by segment, or is gptaq.
    """

    before: str = ""
    after: str = ""
    solver: str = "at once"

    @property
    def name(self) -> str:
        """As reports show it."""
        parts = [self.before, "..." if self.solver == "at once" else f"... ({self.solver})", self.after]
        return ",".join(part for part in parts if part)

    def words(self, words: str) -> str:
        """The words of a choice."""
        if self.solver == "at once":
            return words
        found = sequential_words(words)
        return found.replace("solver=gptq", "solver=gptaq") if self.solver == "gptaq" else found

    def steps(
        self, problem: Problem, reference: ir.Model, assignment: Assignment, *, rounded: bool = False
    ) -> tuple[Selected, ...]:
        """The pipeline of an assignment; ``rounded``: with codes rounded to nearest."""

        def words_of(words: str) -> str:
            return rounded_words(words) if rounded else self.words(words)

        steps = steps_of(problem, reference, assignment, words_of)
        before = []
        for item in parse_passes(self.before) if self.before else []:
            needed, nodes = _prepares(problem, assignment, item.name)
            before += [Selected(item, literal_names(reference, nodes))] if needed else []
        after = [Selected(item) for item in (parse_passes(self.after) if self.after else [])]
        return (*before, *steps, *after)


def variants_of(
    problem: Problem, assignment: Assignment, base: Variant, *, has_data: bool
) -> Iterator[Variant]:
    """Pipelines that are worth a comparison, ``base`` first; that one alone without data."""
    yield base
    if not has_data or problem.estimated:
        return
    taken = [(group, pass_of(words)) for group, words in chosen(problem, assignment)]
    stored = [group for group, item in taken if isinstance(item, WeightOnly) and group.op_type in PRODUCTS]
    weights = [sum(group.parameters for group in groups) for groups in (stored, problem.groups)]
    if weights[0] > FEW * weights[1]:
        if base.solver == "at once":
            yield from (replace(base, solver=solver) for solver in ("by segment", "gptaq"))
        if not base.before:
            yield replace(base, before="awq", solver="gptaq" if base.solver == "gptaq" else "by segment")
    corrected = replace(base, after="" if base.after else CORRECTION)
    if any(isinstance(item, Int8Static) and group.op_type == "Conv" for group, item in taken):
        yield corrected


def chosen(problem: Problem, assignment: Assignment) -> Iterator[tuple[Group, str]]:
    """Groups that are not left in float, with the words of their choice."""
    words = {choice.name: choice.words for choice in problem.choices}
    for group in problem.groups:
        if found := words[assignment.get(group.name, FLOAT)]:
            yield group, found


def _prepares(problem: Problem, assignment: Assignment, transform: str) -> tuple[bool, list[str]]:
    """Whether an assignment has anything that a transform prepares, and for which nodes alone; none: for all."""
    kinds = [(group, isinstance(pass_of(words), WeightOnly)) for group, words in chosen(problem, assignment)]
    if transform != "awq":
        return any(not stores_only for _, stores_only in kinds), []
    found = [group for group, stores_only in kinds if stores_only and group.op_type in PRODUCTS]
    return bool(found), [name for group in found for name in group.nodes]
