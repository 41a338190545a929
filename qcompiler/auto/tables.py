"""The estimates that the program is made of, and putting right what measured models show to be wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import TypeAdapter

from qcompiler.auto.bounds import Settled, refusal
from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import FLOAT, Assignment, Boundary, Estimates, Problem, Table, Totals
from qcompiler.auto.judge import Judge, Judged
from qcompiler.auto.latency.table import LatencyTable, latency_table
from qcompiler.auto.least import with_least
from qcompiler.auto.losses.sensitivity import loss_table
from qcompiler.auto.problem.forms import uniform_names
from qcompiler.auto.sizes import size_table
from qcompiler.auto.solve import Infeasible, Limits, solve

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

    @classmethod
    def early(cls, problem: Problem, uniform: Mapping[str, Judged]) -> Measured:
        """What a search knows that is interrupted before groups were measured."""
        nothing = np.where(problem.allowed, 0.0, np.nan)
        return cls(Estimates(nothing, nothing, nothing), uniform)

    def usual(self, settled: Settled, float_totals: Totals) -> str:
        """The choice of the uniform model that a user would take instead of a search's; float where none is faster.

        That is the smallest one that keeps the bounds, or where none does, the one that loses least.
        """
        uniform = {name: each.totals for name, each in self.uniform.items()}
        kept = [name for name, each in uniform.items() if not settled.broken(each, 0.0, float_totals)]
        smaller = [name for name, each in uniform.items() if each.size_bytes < float_totals.size_bytes]
        nearest = min(smaller, key=lambda name: uniform[name].loss, default=FLOAT)
        best = min(kept, key=lambda name: uniform[name].size_bytes, default=nearest)
        faster = best != FLOAT and uniform[best].latency_ms < float_totals.latency_ms
        return best if faster else FLOAT


def measure(problem: Problem, bench: Builds, judge: Judge, settled: Settled) -> Measured:
    """Measure sizes, latencies and losses of every choice of every group, and uniform models as they are deployed.

    Raises:
        UnsupportedError: the bounds on size, latency and bits exclude each other; known before losses are measured.
    """
    base_bytes, sizes = size_table(problem, bench)
    sizes = with_least(problem, base_bytes, sizes, bench.least)
    latency = latencies_once(problem, bench) if judge.timed else None
    still = np.where(problem.allowed, 0.0, np.nan)
    estimates = Estimates(sizes, still, still, Totals(base_bytes, 0.0, 0.0))
    if latency is not None:
        judge.float_ms = latency.float_ms
        base = Totals(base_bytes, latency.base_ms, 0.0)
        estimates = Estimates(sizes, latency.table, still, base, tuple(latency.boundaries))
    refuse_impossible(problem, estimates, settled.limits(judge.float_totals))
    judge_uniform(problem, bench, judge)
    bench.schedule.begin("losses")
    loss = corrected_losses(problem, loss_table(problem, bench, judge.metric), judge.uniform)
    bench.schedule.end(steps=len(judge.uniform))
    return Measured(replace(estimates, loss=loss), judge.uniform)


def latencies_once(problem: Problem, bench: Builds) -> LatencyTable:
    """The table of latencies, from the journal where it was made before: then no model is built for it."""
    boundaries = TypeAdapter(tuple[Boundary, ...])

    def measured() -> dict[str, npt.NDArray[np.generic]]:
        found = latency_table(problem, bench)
        words = json.dumps([found.how, boundaries.dump_python(found.boundaries, mode="json")])
        return {
            "table": found.table,
            "base_and_float_ms": np.array([found.base_ms, found.float_ms]),
            "words": np.frombuffer(words.encode(), np.uint8),
        }

    known = bench.journal.recall("latencies", measured)
    how, between = json.loads(np.asarray(known["words"], np.uint8).tobytes())
    base_ms, float_ms = map(float, known["base_and_float_ms"])
    table = np.asarray(known["table"], np.float64)
    return LatencyTable(base_ms, table, boundaries.validate_python(between), how, float_ms)


def refuse_impossible(problem: Problem, estimates: Estimates, limits: Limits) -> None:
    """Refuse limits that no assignment keeps.

    Raises:
        UnsupportedError: says what is possible.
    """
    if limits.given() and isinstance(found := solve(problem, estimates, limits, "size"), Infeasible):
        raise refusal(found)


def judge_uniform(problem: Problem, bench: Builds, judge: Judge) -> None:
    """Models of one choice everywhere, as they are deployed; from the journal where they were judged before."""
    names, schedule = uniform_names(problem), bench.schedule
    schedule.plan("uniform", len(names))
    schedule.plan("losses", len(names))
    for at, name in enumerate(names):
        bench.tell("measuring uniform models", at, len(names))
        schedule.begin("uniform")
        assignment = problem.uniform(name)
        judged = judge.judge_once(f"uniform/{name}", partial(_built, bench, assignment))
        schedule.end(judged.seconds)
        judge.uniform[name] = judged


def _built(bench: Builds, assignment: Assignment) -> Path:
    return bench.build(assignment).path


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
