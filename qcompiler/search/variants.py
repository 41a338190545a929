"""Whole pipelines for one assignment: how codes are solved, and which transforms stand before and behind.

Transforms change the whole graph, so they are no choice of single nodes: a few pipelines of the same assignment are
built and the best is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.passes.int8_static import Int8Static
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.parse import parse_passes
from qcompiler.pipeline.selected import Selected
from qcompiler.search.choices import pass_of, rounded_words, sequential_words
from qcompiler.search.facts import FLOAT, Assignment, Group, Problem
from qcompiler.search.recipe import literal_names, steps_of

PRODUCTS = frozenset({"MatMul", "Gemm"})


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
        before = [
            Selected(item, literal_names(reference, nodes))
            for item in (parse_passes(self.before) if self.before else [])
            if (nodes := _prepared(problem, assignment, item.name))
        ]
        after = [Selected(item) for item in (parse_passes(self.after) if self.after else [])]
        return (*before, *steps, *after)


def variants_of(problem: Problem, assignment: Assignment, *, has_data: bool) -> Iterator[Variant]:
    """Pipelines that are worth a comparison, the plainest first; that one alone without data."""
    yield Variant()
    if not has_data:
        return
    taken = [(group.op_type, pass_of(words)) for group, words in chosen(problem, assignment)]
    low_bit = any(isinstance(item, WeightOnly) and op in PRODUCTS for op, item in taken)
    static_conv = any(isinstance(item, Int8Static) and op == "Conv" for op, item in taken)
    int8_products = any(not isinstance(item, WeightOnly) and op in PRODUCTS for op, item in taken)
    if low_bit:
        yield Variant(solver="by segment")
        yield Variant(solver="gptaq")
        yield Variant(before="awq", solver="by segment")
    if static_conv:
        yield Variant(after="bias_correction")
        yield Variant(before="cross_layer_equalization", after="bias_correction")
    if int8_products:
        yield Variant(before="smoothquant")


def chosen(problem: Problem, assignment: Assignment) -> Iterator[tuple[Group, str]]:
    """Groups that are not left in float, with the words of their choice."""
    words = {choice.name: choice.words for choice in problem.choices}
    for group in problem.groups:
        if found := words[assignment.get(group.name, FLOAT)]:
            yield group, found


def _prepared(problem: Problem, assignment: Assignment, transform: str) -> list[str]:
    """Nodes that a transform is for: those whose format it prepares weights or activations for."""
    if transform == "cross_layer_equalization":
        return [name for group, _ in chosen(problem, assignment) for name in group.nodes]
    return [
        name
        for group, words in chosen(problem, assignment)
        if isinstance(pass_of(words), WeightOnly) is (transform == "awq") and group.op_type in PRODUCTS
        for name in group.nodes
    ]
