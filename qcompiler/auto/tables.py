"""The estimates that the program is made of, and putting right what measured models show to be wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Estimates, Problem, Table, Totals
from qcompiler.auto.forms import uniform_names
from qcompiler.auto.judge import Judge, Judged
from qcompiler.auto.latency import latency_table
from qcompiler.auto.sensitivity import loss_table
from qcompiler.auto.sizes import size_table

CANDIDATES = 8
"""Models that a search compiles, about."""

LEAST_FACTOR, MOST_FACTOR = 0.2, 5.0
"""A uniform model's loss is seldom further from the sum of its groups'; beyond, one of the two is noise."""


@dataclass(frozen=True)
class Measured:
    """What was measured before the first program is solved.

    Attributes:
        estimates: of every choice of every group; losses put right so that uniform models lose what they do lose.
        uniform: models of one choice everywhere, by its name.
    """

    estimates: Estimates
    uniform: Mapping[str, Judged]


def measure(problem: Problem, bench: Builds, judge: Judge) -> Measured:
    """Measure sizes, latencies and losses of every choice of every group, and uniform models as they are deployed."""
    count = len(problem.choices)
    bench.total = bench.done + 4 * count + CANDIDATES
    base_bytes, sizes = size_table(problem, bench)
    bench.advance(count)
    latency = latency_table(problem, bench) if judge.timed else None
    bench.advance(count)
    judge.float_ms = 0.0 if latency is None else latency.float_ms
    uniform = judge_uniform(problem, bench, judge)
    loss = corrected_losses(problem, loss_table(problem, bench, judge.metric), uniform)
    bench.advance(count)
    if latency is None:
        still = np.where(problem.allowed, 0.0, np.nan)
        return Measured(Estimates(sizes, still, loss, Totals(base_bytes, 0.0, 0.0)), uniform)
    base = Totals(base_bytes, latency.base_ms, 0.0)
    return Measured(Estimates(sizes, latency.table, loss, base, tuple(latency.boundaries)), uniform)


def judge_uniform(problem: Problem, bench: Builds, judge: Judge) -> dict[str, Judged]:
    """Models of one choice everywhere, as they are deployed; from the journal where they were judged before."""
    found, names = {}, uniform_names(problem)
    for at, name in enumerate(names):
        bench.tell("measuring uniform models", at, len(names))
        bench.advance()
        found[name] = remembered(bench, judge, f"uniform/{name}", problem.uniform(name))
    return found


def remembered(bench: Builds, judge: Judge, key: str, assignment: Mapping[str, str]) -> Judged:
    """A judgement that a search which goes on does not make again."""

    def make() -> dict[str, Table]:
        path: Path = bench.build(assignment).path
        made = judge.judge(path)
        totals = made.totals
        figures = [made.value, made.surrogate, totals.size_bytes, totals.latency_ms, totals.loss]
        return {"figures": np.array(figures, np.float64)}

    figures = bench.journal.recall(f"judged/{judge.metric.name}/{key}", make)["figures"]
    value, surrogate, size_bytes, latency_ms, loss = (float(each) for each in figures)
    return Judged(value, surrogate, Totals(size_bytes, latency_ms, loss))


def corrected_losses(problem: Problem, loss: Table, uniform: Mapping[str, Judged]) -> Table:
    """Losses of each choice times what makes them add up to the uniform model's.

    Errors of many groups neither add up exactly nor are measured on what is deployed.
    """
    found = loss.copy()
    rows = np.arange(len(problem.groups))
    for at, choice in enumerate(problem.choices):
        total = float(np.nansum(loss[rows, problem.indices(problem.uniform(choice.name))]))
        if choice.name in uniform and total > 0:
            factor = uniform[choice.name].surrogate / total
            found[:, at] *= min(max(factor, LEAST_FACTOR), MOST_FACTOR)
    return found


def scaled_latency(estimates: Estimates, factor: float) -> Estimates:
    """Estimates with all latencies multiplied."""
    base = replace(estimates.base, latency_ms=estimates.base.latency_ms * factor)
    boundaries = tuple(replace(each, ms=each.ms * factor) for each in estimates.boundaries)
    return replace(estimates, latency_ms=estimates.latency_ms * factor, base=base, boundaries=boundaries)


def moved_size(estimates: Estimates, size_bytes: float) -> Estimates:
    """Estimates with so many bytes more that no choice changes."""
    return replace(estimates, base=replace(estimates.base, size_bytes=estimates.base.size_bytes + size_bytes))
