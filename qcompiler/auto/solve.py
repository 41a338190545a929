"""Which choice each group takes: a 0/1 program, solved exactly with SciPy's HiGHS.

    minimize    sum over g, c of cost[g, c] x[g, c]  (+ boundaries)
    subject to  sum over c of x[g, c] = 1            for every group g
                sum over g, c of used[g, c] x[g, c] <= limit - base    for size, latency, loss, bits
                y[b] >= x[a, choices a] + x[b, choices b] - 1          for every boundary b, y >= 0
                x[a, choices a] + x[b, choices b] <= 1                 for every conflict

x is 0 or 1.  Costs and rows are scaled to about one, since the solver's tolerances are absolute.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from qcompiler.auto.facts import Estimates, Prefer, Problem, Table, Totals
from qcompiler.auto.problem.forms import conflicts
from qcompiler.auto.silence import silent_library
from qcompiler.errors import UnsupportedError

Quantity = Literal["size_bytes", "latency_ms", "loss", "bits"]
QUANTITIES: tuple[Quantity, ...] = ("size_bytes", "latency_ms", "loss", "bits")
PREFERRED: Mapping[Prefer, Quantity] = {"size": "size_bytes", "speed": "latency_ms", "accuracy": "loss"}

TIES: Mapping[Quantity, float] = {"size_bytes": 1e-4, "latency_ms": 1e-2, "loss": 1e-4, "bits": 1e-4}
"""Weight of the other quantities in the cost of each: of models that are as good as equal the one that is better
otherwise.  Times are known to a per cent: that much is not worth twice the bytes."""
SLACK = 1e-9
"""Share of a limit that a sum in another order may exceed it by: less than a byte of a gigabyte."""


@dataclass(frozen=True)
class Limits:
    """Most of each quantity that a model may have; None: no limit.

    Attributes:
        bits: a weight, over the weights of all groups, as their formats pack them.
    """

    size_bytes: float | None = None
    latency_ms: float | None = None
    loss: float | None = None
    bits: float | None = None

    def given(self) -> dict[Quantity, float]:
        """Those that there are."""
        values = {name: getattr(self, name) for name in QUANTITIES}
        return {name: float(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Solution:
    """A best assignment.

    Attributes:
        picked: ``[groups]`` index of the choice of each.
        predicted: what it takes.
        bits: a weight.
    """

    picked: npt.NDArray[np.int64]
    predicted: Totals
    bits: float

    def assignment(self, problem: Problem) -> dict[str, str]:
        """Choice name by group name, those in float too."""
        names = [choice.name for choice in problem.choices]
        return {group.name: names[at] for group, at in zip(problem.groups, self.picked, strict=True)}


@dataclass(frozen=True)
class _Cost:
    """What a program makes least, and the weight of the other quantities."""

    quantity: Quantity
    tie: float


@dataclass(frozen=True)
class Infeasible:
    """No assignment keeps the limits.

    Attributes:
        quantity: of the limit that cannot be kept.
        limit: what was asked for.
        least: of the quantity that is possible, with the other limits kept where these can be.
        alone: whether it cannot be kept even without the others.
    """

    quantity: Quantity
    limit: float
    least: float
    alone: bool


def require_solver() -> None:
    """Refuse early what could not be solved in the end.

    Raises:
        UnsupportedError: SciPy is not installed.
    """
    if importlib.util.find_spec("scipy") is None:
        raise UnsupportedError("a search needs SciPy, which is not installed: pip install 'qcompiler[auto]'.")


def solve(problem: Problem, estimates: Estimates, limits: Limits, prefer: Prefer) -> Solution | Infeasible:
    """The assignment that has least of what is preferred within the limits, or why there is none."""
    cost = PREFERRED[prefer]
    if not problem.groups:
        picked = np.zeros(0, np.int64)
        empty = Solution(picked, estimates.total(picked), 0.0)
        return _violation(problem, estimates, limits) or empty
    found = _minimize(problem, estimates, limits, cost, TIES[cost])
    if found is None:
        violated = _violation(problem, estimates, limits)
        assert violated is not None
        return violated
    return found


def least(problem: Problem, estimates: Estimates, quantity: Quantity) -> float:
    """Least of a quantity that any assignment has."""
    if not problem.groups:
        return _value(problem, estimates, np.zeros(0, np.int64), quantity)
    found = _minimize(problem, estimates, Limits(), quantity)
    assert found is not None
    return _value(problem, estimates, found.picked, quantity)


def _violation(problem: Problem, estimates: Estimates, limits: Limits) -> Infeasible | None:
    """The first limit that cannot be kept: alone, or with those before it."""
    given = limits.given()
    for name, limit in given.items():
        lowest = least(problem, estimates, name)
        if _exceeds(lowest, limit):
            return Infeasible(name, limit, lowest, alone=True)
    kept = Limits()
    for name, limit in given.items():
        found = _minimize(problem, estimates, kept, name) if problem.groups else None
        lowest = limit if found is None else _value(problem, estimates, found.picked, name)
        if _exceeds(lowest, limit):
            return Infeasible(name, limit, lowest, alone=False)
        kept = replace(kept, **{name: limit})
    return None


def _minimize(
    problem: Problem, estimates: Estimates, limits: Limits, cost: Quantity, tie: float = 0.0
) -> Solution | None:
    """Solve; where rounding within the solver let a limit be exceeded, solve again with that much less."""
    asked = limits
    for _ in range(4):
        picked = _program(problem, estimates, asked, _Cost(cost, tie))
        if picked is None:
            return None
        over = {
            name: value - limit
            for name, limit in limits.given().items()
            if _exceeds(value := _value(problem, estimates, picked, name), limit)
        }
        if not over:
            bits = _value(problem, estimates, picked, "bits")
            return Solution(picked, estimates.total(picked), bits)
        less = {name: getattr(asked, name) - 2 * amount for name, amount in over.items()}
        asked = replace(asked, **less)
    return None


def _exceeds(value: float, limit: float) -> bool:
    return value > limit + SLACK * abs(limit)


def _program(
    problem: Problem, estimates: Estimates, limits: Limits, cost: _Cost
) -> npt.NDArray[np.int64] | None:
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array, vstack

    usable = _usable(problem, estimates)
    cells = np.argwhere(usable)
    pairs = estimates.boundaries
    count = len(cells) + len(pairs)
    owner = csr_array(
        (np.ones(len(cells)), (cells[:, 0], np.arange(len(cells)))), shape=(len(problem.groups), count)
    )
    rows, upper = [], []
    for name, limit in limits.given().items():
        row, base = _row(problem, estimates, cells, name)
        scale = max(float(np.abs(row).max(initial=0.0)), abs(limit - base), 1e-30)
        rows.append(csr_array(row[None] / scale))
        upper.append((limit - base) / scale)
    for at, boundary in enumerate(pairs):
        rows.append(
            csr_array(
                _pair_row(boundary.group_a, boundary.choices_a, cells, count)
                + _pair_row(boundary.group_b, boundary.choices_b, cells, count)
                - _unit(len(cells) + at, count)
            )
        )
        upper.append(1.0)
    for each in conflicts(problem):
        one = _pair_row(each.group_a, each.choices_a, cells, count)
        rows.append(csr_array(one + _pair_row(each.group_b, each.choices_b, cells, count)))
        upper.append(1.0)
    constraints = [LinearConstraint(owner, 1.0, 1.0)]
    if rows:
        constraints.append(LinearConstraint(vstack(rows), -np.inf, np.array(upper)))
    integral = np.r_[np.ones(len(cells)), np.zeros(len(pairs))]
    with silent_library():
        found = milp(
            _cost(problem, estimates, cells, cost),
            constraints=constraints,
            integrality=integral,
            bounds=Bounds(0.0, 1.0),
            options={"mip_rel_gap": 0.0},
        )
    if found.x is None:
        return None
    picked = np.zeros(len(problem.groups), np.int64)
    taken = cells[found.x[: len(cells)] > 0.5]
    picked[taken[:, 0]] = taken[:, 1]
    return picked


def _usable(problem: Problem, estimates: Estimates) -> npt.NDArray[np.bool_]:
    """Choices that are allowed and whose every estimate is known."""
    known = (
        np.isfinite(estimates.size_bytes) & np.isfinite(estimates.latency_ms) & np.isfinite(estimates.loss)
    )
    usable: npt.NDArray[np.bool_] = problem.allowed & known
    if not usable.any(axis=1).all():
        raise AssertionError("a group without any choice: float must be known for every group")
    return usable


def _table(problem: Problem, estimates: Estimates, quantity: Quantity) -> tuple[Table, float]:
    """A quantity ``[groups, choices]``, and what no choice changes."""
    if quantity == "bits":
        weights = max(sum(group.parameters for group in problem.groups), 1)
        return problem.stored_bits / weights, 0.0
    return getattr(estimates, quantity), float(getattr(estimates.base, quantity))


def _row(
    problem: Problem, estimates: Estimates, cells: npt.NDArray[np.int64], quantity: Quantity
) -> tuple[Table, float]:
    """What each variable adds to a quantity, and what no variable changes."""
    table, base = _table(problem, estimates, quantity)
    between = [pair.ms if quantity == "latency_ms" else 0.0 for pair in estimates.boundaries]
    return np.r_[table[cells[:, 0], cells[:, 1]], between], base


def _cost(problem: Problem, estimates: Estimates, cells: npt.NDArray[np.int64], cost: _Cost) -> Table:
    """The quantity as a share of the most that it can be, and a little of the others."""
    total = np.zeros(len(cells) + len(estimates.boundaries))
    for name in QUANTITIES:
        row, _ = _row(problem, estimates, cells, name)
        most = np.zeros(len(problem.groups))
        np.maximum.at(most, cells[:, 0], np.abs(row[: len(cells)]))
        if most.sum() > 0:
            weight = 1.0 if name == cost.quantity else cost.tie if name != "bits" else 0.0
            total += weight * row / most.sum()
    return total * len(problem.groups)


def _pair_row(group: int, choices: frozenset[int], cells: npt.NDArray[np.int64], count: int) -> Table:
    row = np.zeros((1, count))
    row[0, : len(cells)] = (cells[:, 0] == group) & np.isin(cells[:, 1], sorted(choices))
    return row


def _unit(at: int, count: int) -> Table:
    row = np.zeros((1, count))
    row[0, at] = 1.0
    return row


def _value(
    problem: Problem, estimates: Estimates, picked: npt.NDArray[np.int64], quantity: Quantity
) -> float:
    if quantity != "bits":
        return float(getattr(estimates.total(picked), quantity))
    table, _ = _table(problem, estimates, "bits")
    return float(table[np.arange(len(picked)), picked].sum())
