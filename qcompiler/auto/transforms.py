"""Which transform stands before everything else: chosen by uniform models, before single groups are measured.

A transform changes what every choice costs, so it must be settled first.  Transforms leave the float model as it is, so
groups that stay in float lose nothing by it.
"""

from __future__ import annotations

from collections.abc import Sequence

from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Problem
from qcompiler.auto.judge import Judge
from qcompiler.auto.variants import PRODUCTS, Variant

PROBES = ("int8_static", "int8_dynamic")
"""Choices by whose uniform models transforms are compared, the first that there is."""
FOR_PRODUCTS = ("smoothquant", "smoothquant,outlier_channels")
FOR_CONVOLUTIONS = ("cross_layer_equalization",)
WORTH = 0.9
"""Share of the loss without a transform above which one is not worth its nodes."""


def choose_transform(problem: Problem, bench: Builds, judge: Judge) -> tuple[Variant, list[str]]:
    """The transform that leaves uniform models the least loss, and what was compared, in words."""
    names = [choice.name for choice in problem.choices]
    probe = next((name for name in PROBES if name in names), None)
    if probe is None or bench.samples.calibration is None:
        return Variant(), []
    candidates = _candidates(problem, probe)
    losses: dict[str, float] = {}
    for at, before in enumerate(("", *candidates)):
        bench.tell("comparing transforms", at, 1 + len(candidates))
        losses[before] = judge.surrogate(problem.uniform(probe), Variant(before))
    best = min(losses, key=lambda name: losses[name])
    chosen = best if losses[best] < WORTH * losses[""] else ""
    said = [
        f"{','.join(part for part in (before, probe) if part)}: surrogate {loss:.5f}"
        for before, loss in losses.items()
    ]
    return Variant(chosen), said if candidates else []


def _candidates(problem: Problem, probe: str) -> Sequence[str]:
    at = problem.choice(probe)
    ops = {group.op_type for group, row in zip(problem.groups, problem.allowed, strict=True) if row[at]}
    return (*(FOR_PRODUCTS if ops & PRODUCTS else ()), *(FOR_CONVOLUTIONS if "Conv" in ops else ()))
