"""The front of size, latency and loss: several programs, of which those worth it are built and measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from qcompiler.auto.facts import Prefer, Totals
from qcompiler.auto.front import Front, FrontPoint
from qcompiler.auto.loop import Loop
from qcompiler.auto.solve import Limits, Solution, solve
from qcompiler.auto.tried import Candidate

STEPS = 8
"""Limits of the loss for which the smallest and the fastest model are asked for."""
MEASURED = 6
"""Points that are compiled and measured at most, beside those that were before."""
SLACK = 0.01
"""A point that another one beats in all three by less than this share is no news."""


def trace_front(loop: Loop) -> Front:
    """Solve for many limits, keep what nothing beats, and measure a few of these."""
    solutions = list(_undominated(_solutions(loop)))
    for solution in _worth_measuring(solutions):
        loop.verify(solution)
    measured = _by_assignment(loop)
    for made in measured.values():
        if made.solution.picked.tobytes() not in {each.picked.tobytes() for each in solutions}:
            solutions.append(made.solution)
    points = [_point(loop, solution, measured.get(solution.picked.tobytes())) for solution in solutions]
    points = _front(points)
    problem, uniform = loop.bench.problem, {}
    for name, judged in loop.measured.uniform.items():
        picked = problem.indices(problem.uniform(name))
        predicted = loop.measured.estimates.total(picked)
        uniform[name] = FrontPoint(problem.uniform(name), predicted, judged.totals)
    return Front(loop.judge.metric.name, loop.judge.float_totals, tuple(points), uniform)


def _by_assignment(loop: Loop) -> dict[bytes, Candidate]:
    """What was measured, one pipeline of each assignment: the one that is published, else the one that loses least."""
    made = [each for each in loop.tried.values() if each is not None]
    made.sort(key=lambda each: (each is loop.best, -each.judged.totals.loss, -each.judged.surrogate))
    return {each.solution.picked.tobytes(): each for each in made}


def _front(points: Sequence[FrontPoint]) -> list[FrontPoint]:
    """Without measured models that another measured one beats, smallest first; the one that is published stays."""
    measured = [each.measured for each in points if each.measured is not None]
    kept = [
        each
        for each in points
        if each.chosen
        or each.measured is None
        or not any(_beats(other, each.measured) for other in measured if other is not each.measured)
    ]
    return sorted(kept, key=lambda point: (point.measured or point.predicted).size_bytes)


def _solutions(loop: Loop) -> Iterator[Solution]:
    problem, estimates = loop.bench.problem, loop.measured.estimates
    floor = solve(problem, estimates, Limits(), "size")
    most = floor.predicted.loss if isinstance(floor, Solution) else 1.0
    losses: Sequence[float] = np.geomspace(max(most, 1e-9) * 1e-3, max(most, 1e-9), STEPS).tolist()
    preferences: tuple[Prefer, ...] = ("size", "speed") if loop.judge.timed else ("size",)
    for prefer in preferences:
        for loss in losses:
            found = solve(problem, estimates, Limits(loss=loss), prefer)
            if isinstance(found, Solution):
                yield found


def _undominated(solutions: Iterator[Solution]) -> Iterator[Solution]:
    unique = list({each.picked.tobytes(): each for each in solutions}.values())
    for each in unique:
        others = (other for other in unique if other is not each)
        if not any(_beats(other.predicted, each.predicted) for other in others):
            yield each


def _beats(one: Totals, other: Totals) -> bool:
    pairs = [(one.size_bytes, other.size_bytes), (one.latency_ms, other.latency_ms), (one.loss, other.loss)]
    return all(a <= b for a, b in pairs) and any(a < b * (1 - SLACK) for a, b in pairs)


def _worth_measuring(solutions: Sequence[Solution]) -> list[Solution]:
    """Evenly spread over the losses."""
    ordered = sorted(solutions, key=lambda each: each.predicted.loss)
    if len(ordered) <= MEASURED:
        return ordered
    return [ordered[at * (len(ordered) - 1) // (MEASURED - 1)] for at in range(MEASURED)]


def _point(loop: Loop, solution: Solution, made: Candidate | None) -> FrontPoint:
    assignment = solution.assignment(loop.bench.problem)
    if made is None:
        in_float = None if solution.picked.any() else loop.judge.float_totals
        return FrontPoint(assignment, solution.predicted, in_float)
    predicted = replace(solution.predicted, size_bytes=made.predicted.size_bytes)
    best = loop.best
    chosen = best is not None and best.solution.picked.tobytes() == solution.picked.tobytes()
    return FrontPoint(assignment, predicted, made.judged.totals, chosen)
