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
from qcompiler.auto.left_out import leave_out, runs, say, without_failing
from qcompiler.auto.losses.sensitivity import loss_table
from qcompiler.auto.problem.forms import uniform_names
from qcompiler.auto.sizes import size_table
from qcompiler.auto.solve import Infeasible, Limits, solve
from qcompiler.errors import OutputError, QCompilerError, UnsupportedError

LEAST_FACTOR, MOST_FACTOR = 0.2, 5.0
"""A uniform model's loss is seldom further from the sum of its groups'; beyond, one of the two is noise."""


@dataclass(frozen=True)
class Measured:
    """What was measured before the first program is solved.

    Attributes:
        estimates: of every choice of every group; losses put right so that uniform models lose what they do lose.
        uniform: models of one choice everywhere, by its name.
        said: which choices were left out and why, in words.
    """

    estimates: Estimates
    uniform: Mapping[str, Judged]
    said: tuple[str, ...] = ()

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

    Choices that fail are left out of the problem of ``bench``, which is ``problem`` to begin with.

    Raises:
        UnsupportedError: the bounds on size, latency and bits exclude each other; known before losses are measured.
    """
    bench.problem = problem
    said: list[str] = []
    estimates = without_failing(bench, said, partial(_costs, bench, judge))
    refuse_impossible(bench.problem, estimates, settled.limits(judge.float_totals))
    judge_uniform(bench, judge, said)
    bench.schedule.begin("losses")
    loss = corrected_losses(bench.problem, loss_table(bench.problem, bench, judge.metric), judge.uniform)
    bench.schedule.end(steps=len(judge.uniform))
    return Measured(replace(estimates, loss=loss), judge.uniform, tuple(said))


def _costs(bench: Builds, judge: Judge) -> Estimates:
    """Estimates of sizes and latencies; losses are still to be measured."""
    problem = bench.problem
    base_bytes, sizes = size_table(problem, bench)
    sizes = with_least(problem, base_bytes, sizes, bench.least)
    still = np.where(problem.allowed, 0.0, np.nan)
    if not judge.timed:
        return Estimates(sizes, still, still, Totals(base_bytes, 0.0, 0.0))
    latency = latencies_once(problem, bench)
    judge.float_ms = latency.float_ms
    base = Totals(base_bytes, latency.base_ms, 0.0)
    return Estimates(sizes, latency.table, still, base, tuple(latency.boundaries))


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

    left = np.flatnonzero(~problem.allowed.any(axis=0))
    key = f"latencies without {' '.join(map(str, left))}" if len(left) else "latencies"
    known = bench.journal.recall(key, measured)
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


def judge_uniform(bench: Builds, judge: Judge, said: list[str]) -> None:
    """Models of one choice everywhere, as they are deployed; from the journal where they were judged before.

    A choice whose model cannot be built or run is left out of the problem of ``bench``.  Where the metric fails of a
    model that runs, the choice is left in: its groups are measured one by one, which needs no metric.

    Args:
        bench: builds.
        judge: knows the models afterwards.
        said: what could not be judged is added.

    Raises:
        QCompilerError: no model could be judged.
    """
    problem, schedule = bench.problem, bench.schedule
    names = uniform_names(problem)
    schedule.plan("uniform", len(names))
    schedule.plan("losses", len(names))
    failed: dict[str, QCompilerError] = {}
    for at, name in enumerate(names):
        bench.tell("measuring uniform models", at, len(names))
        schedule.begin("uniform")
        try:
            judged = _judged(bench, judge, name)
        except OutputError:
            raise
        except QCompilerError as error:
            failed[name] = error
            schedule.end()
            continue
        schedule.end(judged.seconds)
        judge.uniform[name] = judged
    if failed:
        _account_for(bench, judge, failed, said)


def _judged(bench: Builds, judge: Judge, name: str) -> Judged:
    assignment = bench.problem.uniform(name)
    judged = judge.judge_once(f"uniform/{name}", partial(_built, bench, assignment))
    if not np.isfinite([judged.value, judged.surrogate, judged.totals.loss]).all():
        raise UnsupportedError(f"{judge.metric.name} of it is {judged.value:g}, no finite number.")
    return judged


def _account_for(bench: Builds, judge: Judge, failed: Mapping[str, QCompilerError], said: list[str]) -> None:
    """Say which uniform models failed; leave choices out whose models cannot be built or run."""
    first = next(iter(failed.values()))
    if not judge.uniform:
        raise first
    choices = {choice.name for choice in bench.problem.choices}
    broken = {
        name: error
        for name in failed
        if name in choices and (error := runs(bench, bench.problem.uniform(name))) is not None
    }
    for name, error in failed.items():
        if name not in broken:
            say(said, f"{name} cannot be judged everywhere, but node by node: {error}")
    if broken:
        leave_out(bench, broken, first, said)


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
