"""The program finds what trying every assignment finds."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.auto.facts import Boundary, Choice, Estimates, Group, Prefer, Problem, Totals
from qcompiler.auto.solve import (
    PREFERRED,
    SLACK,
    TIES,
    Infeasible,
    Limits,
    Quantity,
    Solution,
    _table,
    least,
    solve,
)

pytest.importorskip("scipy")


def made(seed: int, groups: int, choices: int, boundaries: int = 0) -> tuple[Problem, Estimates]:
    """Random figures; some choices are not for some groups, some estimates are missing."""
    rng = np.random.default_rng(seed)
    allowed = rng.random((groups, choices)) < 0.8
    allowed[:, 0] = True
    names = [Choice("float", ""), *(Choice(f"c{at}", "int4") for at in range(1, choices))]
    nodes = [Group(f"g{at}", (f"g{at}",), "MatMul", int(rng.integers(1, 50))) for at in range(groups)]
    shape = (groups, choices)
    loss = rng.random(shape) * 0.1
    loss[:, 0] = 0.0
    loss[~allowed] = np.nan
    pairs = tuple(
        Boundary(int(a), frozenset({0}), int(b), frozenset(range(1, choices)), float(rng.random()))
        for a, b in (rng.choice(groups, 2, replace=False) for _ in range(boundaries if groups > 1 else 0))
    )
    estimates = Estimates(
        rng.integers(1, 1000, shape).astype(float), rng.random(shape), loss, Totals(500.0, 0.3, 0.0), pairs
    )
    return Problem(tuple(nodes), tuple(names), allowed, rng.random(shape) * 100), estimates


def value(problem: Problem, estimates: Estimates, picked: tuple[int, ...], quantity: Quantity) -> float:
    if quantity == "bits":
        stored = sum(problem.stored_bits[at, choice] for at, choice in enumerate(picked))
        return float(stored) / sum(group.parameters for group in problem.groups)
    return float(getattr(estimates.total(np.array(picked, np.int64)), quantity))


def every(problem: Problem) -> list[tuple[int, ...]]:
    return list(itertools.product(*(np.flatnonzero(row).tolist() for row in problem.allowed)))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    groups=st.integers(1, 5),
    choices=st.integers(2, 4),
    boundaries=st.integers(0, 3),
    prefer=st.sampled_from(["size", "speed", "accuracy"]),
    tight=st.tuples(*[st.one_of(st.none(), st.floats(0.0, 1.0)) for _ in range(4)]),
)
def test_nothing_that_keeps_the_limits_is_better(
    seed: int,
    groups: int,
    choices: int,
    boundaries: int,
    prefer: Prefer,
    tight: tuple[float | None, ...],
) -> None:
    problem, estimates = made(seed, groups, choices, boundaries)
    quantities: tuple[Quantity, ...] = ("size_bytes", "latency_ms", "loss", "bits")
    table = {
        name: np.array([value(problem, estimates, picked, name) for picked in every(problem)])
        for name in quantities
    }
    limits = Limits(
        **{
            name: None if share is None else float(np.quantile(table[name], share))
            for name, share in zip(quantities, tight, strict=True)
        }
    )
    keeps = np.ones(len(every(problem)), bool)
    for name, limit in limits.given().items():
        keeps &= table[name] <= limit * (1 + SLACK)
    found = solve(problem, estimates, limits, prefer)
    if not keeps.any():
        assert isinstance(found, Infeasible)
        assert found.least > found.limit or not found.alone
        if found.alone:
            assert found.least == pytest.approx(table[found.quantity].min(), rel=1e-6)
        return
    assert isinstance(found, Solution)
    for name, limit in limits.given().items():
        # sums in another order
        assert value(problem, estimates, tuple(found.picked.tolist()), name) <= limit * (1 + SLACK)
    wanted = PREFERRED[prefer]
    best = table[wanted][keeps].min()
    most = float(np.where(problem.allowed, _table(problem, estimates, wanted)[0], 0.0).max(axis=1).sum())
    # ties are broken by two other quantities, each at most its weight times all that there is
    slack = 3 * TIES[wanted] * most + 1e-6
    assert value(problem, estimates, tuple(found.picked.tolist()), wanted) <= best + slack


def test_what_is_least_possible_is_said() -> None:
    problem, estimates = made(3, 4, 3)
    smallest = min(value(problem, estimates, picked, "size_bytes") for picked in every(problem))
    found = solve(problem, estimates, Limits(size_bytes=smallest - 1), "accuracy")
    assert found == Infeasible("size_bytes", smallest - 1, smallest, alone=True)
    assert least(problem, estimates, "size_bytes") == smallest


def test_limits_that_exclude_each_other_are_told_apart_from_impossible_ones() -> None:
    """The small choice is slow and the fast one large: each limit can be kept, not both."""
    group = Group("g", ("g",), "MatMul", 10)
    problem = Problem(
        (group,), (Choice("float", ""), Choice("small", "int4")), np.ones((1, 2), bool), np.ones((1, 2))
    )
    estimates = Estimates(np.array([[100.0, 10.0]]), np.array([[1.0, 9.0]]), np.zeros((1, 2)))
    found = solve(problem, estimates, Limits(size_bytes=50, latency_ms=5), "accuracy")
    assert found == Infeasible("latency_ms", 5.0, 9.0, alone=False)


def test_a_choice_whose_loss_is_unknown_is_not_taken() -> None:
    problem, estimates = made(5, 3, 3)
    unknown = estimates.loss.copy()
    unknown[:, 1:] = np.nan
    found = solve(problem, replace(estimates, loss=unknown), Limits(), "size")
    assert isinstance(found, Solution)
    assert found.picked.tolist() == [0, 0, 0]


def test_of_equals_the_one_that_is_better_otherwise_is_taken() -> None:
    group = Group("g", ("g",), "MatMul", 10)
    choices = (Choice("float", ""), Choice("slow", "int4"), Choice("fast", "int8"))
    problem = Problem((group,), choices, np.ones((1, 3), bool), np.ones((1, 3)))
    estimates = Estimates(np.array([[9.0, 4.0, 4.0]]), np.array([[3.0, 2.0, 1.0]]), np.zeros((1, 3)))
    found = solve(problem, estimates, Limits(), "size")
    assert isinstance(found, Solution)
    assert found.assignment(problem) == {"g": "fast"}


def test_nothing_to_decide_is_decided_at_once() -> None:
    problem = Problem((), (Choice("float", ""),), np.ones((0, 1), bool), np.ones((0, 1)))
    empty = np.zeros((0, 1))
    estimates = Estimates(empty, empty, empty, Totals(10.0, 1.0, 0.0))
    found = solve(problem, estimates, Limits(size_bytes=20), "size")
    assert isinstance(found, Solution)
    assert found.predicted == Totals(10.0, 1.0, 0.0)
    assert solve(problem, estimates, Limits(size_bytes=5), "size") == Infeasible(
        "size_bytes", 5.0, 10.0, alone=True
    )


def test_time_within_its_noise_is_not_worth_many_bytes() -> None:
    """A table is 0.1 % of the time faster in float and half of the file: it is quantized."""
    groups = tuple(Group(name, (name,), "MatMul", 10) for name in ("table", "rest"))
    problem = Problem(
        groups, (Choice("float", ""), Choice("int8", "int8")), np.ones((2, 2), bool), np.ones((2, 2))
    )
    estimates = Estimates(
        np.array([[50.0, 12.0], [50.0, 12.0]]), np.array([[0.1, 0.102], [1.9, 1.0]]), np.zeros((2, 2))
    )
    found = solve(problem, estimates, Limits(), "speed")
    assert isinstance(found, Solution)
    assert found.picked.tolist() == [1, 1]
