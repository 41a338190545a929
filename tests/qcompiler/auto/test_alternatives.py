"""What other choices would have cost a group in float: differences of totals, boundaries counted."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.auto.alternatives import alternatives
from qcompiler.auto.facts import Boundary, Choice, Estimates, Group, Problem, Totals

GROUPS = tuple(Group(name, (name,), "MatMul", 10) for name in "abc")
CHOICES = (Choice("float", ""), Choice("int8", "int8"), Choice("int4", "int4"), Choice("fast", "fast"))


def tables() -> tuple[Problem, Estimates]:
    """``c`` has no choice; ``fast`` is the fastest, ``int4`` the smallest, ``int8`` loses least."""
    allowed = np.array([[True] * 4, [True] * 4, [True, False, False, False]])
    nothing = np.where(allowed, 0.0, np.nan)
    size = nothing + np.array([40.0, 12.0, 6.0, 14.0])
    ms = nothing + np.array([1.0, 0.9, 0.95, 0.5])
    loss = nothing + np.array([0.0, 0.01, 0.2, 0.02])
    between = Boundary(0, frozenset({3}), 1, frozenset({1}), 0.2)
    problem = Problem(GROUPS, CHOICES, allowed, nothing)
    return problem, Estimates(size, ms, loss, Totals(100.0, 1.0, 0.0), (between,))


def test_those_that_lose_least_are_smallest_and_fastest_are_said_of_groups_in_float() -> None:
    found = alternatives(*tables(), np.array([0, 1, 0]))
    assert list(found) == ["a"]
    assert [each.choice for each in found["a"]] == ["int8", "int4", "fast"]
    assert [each.size_bytes for each in found["a"]] == pytest.approx([-28, -34, -26])
    # the last pays what passes between it and its neighbour
    assert [each.latency_ms for each in found["a"]] == pytest.approx([-0.1, -0.05, -0.3])
    assert [each.loss for each in found["a"]] == pytest.approx([0.01, 0.2, 0.02])


def test_one_that_is_best_in_everything_is_said_once() -> None:
    problem, estimates = tables()
    problem.allowed[:, 2:] = False
    assert [each.choice for each in alternatives(problem, estimates, np.array([0, 1, 0]))["a"]] == ["int8"]


def test_nothing_is_said_where_no_losses_were_measured() -> None:
    problem, estimates = tables()
    still = Estimates(estimates.size_bytes, estimates.latency_ms, 0 * estimates.loss)
    assert alternatives(problem, still, np.array([0, 1, 0])) == {}
