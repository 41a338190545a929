"""Whether a correction stands behind everything else: settled by a uniform model, before single groups are measured.

A correction costs no time and changes what every choice loses, so that losses must be measured with it: on MobileNetV1
it leaves a tenth of the loss of uniform int8 (a search says both), and that of other nodes.
"""

from __future__ import annotations

from dataclasses import replace

from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Problem
from qcompiler.auto.judge import Judge
from qcompiler.auto.left_out import surrogate_of
from qcompiler.auto.variants import CORRECTION, Variant

PROBE = "int8_static"
"""The choice by whose uniform model it is settled."""
CONVOLUTIONS = ("Conv",)
WORTH = 0.95
"""Share of the loss without it above which a correction is left out."""


def choose_correction(problem: Problem, bench: Builds, judge: Judge) -> tuple[Variant, list[str]]:
    """The variant of ``bench``, with a correction where one helps; and what was compared, in words."""
    variant = bench.variant
    if bench.samples.calibration is None or not convolves_in_integers(problem):
        return variant, []
    found = {}
    for after in ("", CORRECTION):
        bench.tell("comparing corrections")
        found[after] = surrogate_of(judge, problem.uniform(PROBE), replace(variant, after=after))
    said = [
        f"{replace(variant, after=after).name.replace('...', PROBE)}: {words}"
        for after, (_, words) in found.items()
    ]
    helps = found[CORRECTION][0] < WORTH * found[""][0]
    return replace(variant, after=CORRECTION if helps else ""), said


def convolves_in_integers(problem: Problem) -> bool:
    """Whether a correction may help: a convolution may take the probe's choice."""
    if PROBE not in [choice.name for choice in problem.choices]:
        return False
    at = problem.choice(PROBE)
    return any(
        row[at] and group.op_type in CONVOLUTIONS
        for group, row in zip(problem.groups, problem.allowed, strict=True)
    )
