"""Which transform stands before everything else: chosen by uniform models, before single groups are measured.

A transform changes what every choice costs, so it must be settled first.  Transforms leave the float model as it is, so
groups that stay in float lose nothing by it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qcompiler.auto.bounds import Settled
from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Problem
from qcompiler.auto.judge import Judge
from qcompiler.auto.latency import measured_ms
from qcompiler.auto.variants import PRODUCTS, Variant

PROBES = ("int8_static", "int8_dynamic")
"""Choices by whose uniform models transforms are compared, the first that there is."""
FOR_PRODUCTS = ("smoothquant", "smoothquant,outlier_channels")
FOR_CONVOLUTIONS = ("cross_layer_equalization",)
WORTH = 0.9
"""Share of the loss without a transform above which one is not worth its nodes."""


def choose_transform(
    problem: Problem, bench: Builds, judge: Judge, settled: Settled
) -> tuple[Variant, list[str]]:
    """The transform that leaves uniform models the least loss, and what was compared, in words.

    Where speed is preferred it is that of the fastest uniform model that keeps the bound on the metric, if one does:
    transforms have nodes of their own.
    """
    names = [choice.name for choice in problem.choices]
    probe = next((name for name in PROBES if name in names), None)
    if probe is None or bench.samples.calibration is None:
        return Variant(), []
    candidates = _candidates(problem, probe)
    said: list[str] = []
    if settled.prefer == "speed" and settled.bounds.max_drop is not None and candidates:
        fastest, said = _fastest(problem, bench, judge, candidates, settled.bounds.max_drop)
        if fastest is not None:
            return fastest, said
    losses: dict[str, float] = {}
    for at, before in enumerate(("", *candidates)):
        bench.tell("comparing transforms", at, 1 + len(candidates))
        losses[before] = judge.surrogate(problem.uniform(probe), Variant(before))
    best = min(losses, key=lambda name: losses[name])
    chosen = best if losses[best] < WORTH * losses[""] else ""
    said += [f"{_words(before, probe)}: surrogate {loss:.5f}" for before, loss in losses.items()]
    return Variant(chosen), said if candidates else []


def _fastest(
    problem: Problem, bench: Builds, judge: Judge, candidates: Sequence[str], most: float
) -> tuple[Variant | None, list[str]]:
    """Of uniform models of every probe the fastest that drops at most so much; None where none does."""
    probes = [choice.name for choice in problem.choices if choice.name in PROBES]
    wanted = [(before, probe) for probe in probes for before in ("", *candidates)]
    figures = []
    for at, (before, probe) in enumerate(wanted):
        bench.tell("comparing transforms", at, len(wanted))
        figures.append(_drop_and_time(problem, bench, judge, before, probe))
    said = [
        f"{_words(*pair)}: drop {drop:.5f}, {time:.3f} of float's time"
        for pair, (drop, time) in zip(wanted, figures, strict=True)
    ]
    held = [(time, before) for (before, _), (drop, time) in zip(wanted, figures, strict=True) if drop <= most]
    return (Variant(min(held)[1]) if held else None), said


def _drop_and_time(
    problem: Problem, bench: Builds, judge: Judge, before: str, probe: str
) -> tuple[float, float]:
    """Of one uniform model, remembered; time as a share of the float model's."""

    def measured() -> dict[str, npt.NDArray[np.float64]]:
        path = bench.build_variant(problem.uniform(probe), Variant(before)).path
        return {"figures": np.array([judge.drop(path), measured_ms(path, bench, 1.0)])}

    drop, time = bench.journal.recall(f"transform/{judge.metric.name}/{before}/{probe}", measured)["figures"]
    return float(drop), float(time)


def _words(before: str, probe: str) -> str:
    return ",".join(part for part in (before, probe) if part)


def _candidates(problem: Problem, probe: str) -> Sequence[str]:
    at = problem.choice(probe)
    ops = {group.op_type for group, row in zip(problem.groups, problem.allowed, strict=True) if row[at]}
    return (*(FOR_PRODUCTS if ops & PRODUCTS else ()), *(FOR_CONVOLUTIONS if "Conv" in ops else ()))
