"""Where nobody says anything of time, a model is as fast as the uniform one that a user would take instead."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from qcompiler.auto.bounds import settle
from qcompiler.auto.expected import EQUAL, Expected
from qcompiler.auto.facts import Bounds, Choice, Estimates, Group, Prefer, Problem, Totals
from qcompiler.auto.judge import Judged
from qcompiler.auto.solve import Solution, solve
from qcompiler.auto.tables import Measured

GROUPS = 8
FLOAT = Totals(1000.0, 8.0, 0.0)
UNIFORM = {
    "int8": Judged(0.0, 0.010, Totals(250.0, 4.0, 0.010)),
    "int4": Judged(0.0, 0.100, Totals(150.0, 5.0, 0.100)),
}


def expected(bounds: Bounds, *, timed: bool = True, slower: float = 1.0) -> tuple[Expected, Estimates]:
    """Uniform models, and estimates by which float groups in between take more time and lose nothing."""
    names = ("", "int8", "int4")
    groups = tuple(Group(f"g{at}", (f"g{at}",), "Conv", 10) for at in range(GROUPS))
    choices = tuple(Choice(name or "float", name) for name in names)
    bits = np.tile(np.array([320.0, 80.0, 40.0]), (GROUPS, 1))
    problem = Problem(groups, choices, np.ones((GROUPS, 3), bool), bits)
    sizes, times, losses = (np.tile(np.array(each) / GROUPS, (GROUPS, 1)) for each in zip(
        (1000.0, 8.0, 0.0), (250.0, 4.0, 0.010), (150.0, 5.0, 0.100), strict=True
    ))  # fmt: skip
    estimates = Estimates(sizes, times, losses)
    uniform = {
        name: Judged(
            0.0,
            each.surrogate,
            Totals(each.totals.size_bytes, slower * each.totals.latency_ms, each.totals.loss),
        )
        for name, each in UNIFORM.items()
    }
    judge = SimpleNamespace(float_totals=FLOAT, timed=timed)
    return Expected(problem, Measured(estimates, uniform), settle(bounds, "kl"), cast(Any, judge)), estimates


def test_the_most_accurate_within_a_size_is_as_fast_as_the_uniform_one_that_loses_least() -> None:
    said, estimates = expected(Bounds(max_size_bytes=500))
    assert said.settled.prefer == "accuracy"
    limits = said.limits(estimates)
    assert limits.latency_ms == pytest.approx(EQUAL * 4.0)
    found = solve(said.problem, estimates, limits, "accuracy")
    assert isinstance(found, Solution)
    assert found.predicted.latency_ms <= EQUAL * 4.0
    free = solve(said.problem, estimates, said.settled.limits(FLOAT), "accuracy")
    assert isinstance(free, Solution)
    assert free.predicted.latency_ms > 1.2 * 4.0  # what is bought with what nobody offered
    assert said.is_slow(Judged(0.0, 0.0, Totals(400.0, 4.5, 0.0)))


def test_what_does_not_fit_is_no_measure() -> None:
    said, estimates = expected(Bounds(max_size_bytes=200))
    assert said.limits(estimates).latency_ms == pytest.approx(EQUAL * 5.0)


@pytest.mark.parametrize(
    ("bounds", "prefer"),
    [
        (Bounds(max_size_bytes=500, max_latency_ms=6.0), "accuracy"),
        (Bounds(max_size_bytes=500, max_bits=9.0), "accuracy"),
        (Bounds(max_bits=9.0), "accuracy"),
        (Bounds(max_drop=0.1, prefer="speed"), "speed"),
    ],
)
def test_elsewhere_time_is_as_bounded(bounds: Bounds, prefer: Prefer) -> None:
    said, estimates = expected(bounds)
    assert said.settled.prefer == prefer
    assert said.limits(estimates) == said.settled.limits(FLOAT)


def test_what_is_not_timed_is_not_bounded() -> None:
    said, estimates = expected(Bounds(max_size_bytes=500), timed=False)
    assert said.limits(estimates).latency_ms is None


def test_float_is_the_measure_where_no_uniform_model_is_faster() -> None:
    said, estimates = expected(Bounds(max_size_bytes=500), slower=3.0)
    assert said.limits(estimates).latency_ms == pytest.approx(EQUAL * 8.0)


def test_the_smallest_has_no_float_where_what_a_user_would_take_has_none() -> None:
    said, _ = expected(Bounds(max_drop=0.02))
    assert said.settled.prefer == "size"
    assert not said.on_usual_kernels.allowed[:, 0].any()
    assert said.on_usual_kernels.allowed[:, 1:].all()
    accurate, _ = expected(Bounds(max_size_bytes=500))
    assert accurate.on_usual_kernels is accurate.problem
