"""The limit of the loss is searched until the metric's bound is used up, whatever its unit; models are stand-ins."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from qcompiler.auto.bounds import settle
from qcompiler.auto.facts import Bounds, Choice, Estimates, Group, Problem, Totals
from qcompiler.auto.front import FrontPoint
from qcompiler.auto.judge import Judged
from qcompiler.auto.loop import Loop
from qcompiler.auto.pareto import _front
from qcompiler.auto.schedule import Schedule
from qcompiler.auto.solve import Solution
from qcompiler.auto.tables import Measured
from qcompiler.auto.tried import Candidate
from qcompiler.auto.variants import Variant
from qcompiler.errors import UnsupportedError

pytest.importorskip("scipy")

GROUPS = 24


def problem() -> Problem:
    groups = tuple(Group(f"g{at}", (f"g{at}",), "MatMul", 100) for at in range(GROUPS))
    choices = (
        Choice("float", ""),
        Choice("int8_dynamic", "int8_dynamic"),
        Choice("int4", "int4", weight_only=True),
    )
    bits = np.tile(np.array([3200.0, 800.0, 400.0]), (GROUPS, 1))
    return Problem(groups, choices, np.ones((GROUPS, 3), bool), bits)


def estimates(seed: int) -> Estimates:
    rng = np.random.default_rng(seed)
    small, large = 10 ** rng.uniform(-5, -3, GROUPS), 10 ** rng.uniform(-3, -1, GROUPS)
    loss = np.stack([np.zeros(GROUPS), small, large], axis=1)
    sizes = np.tile(np.array([400.0, 100.0, 50.0]), (GROUPS, 1))
    return Estimates(sizes, np.ones((GROUPS, 3)), loss, Totals(1000.0, 1.0, 0.0))


@dataclass
class StandIn(Loop):
    """Deploys nothing: the metric's drop is some function of the sum of losses, and files are a little larger."""

    drop_of: Any = None
    sums: list[float] = field(default_factory=list)

    def verify(
        self, solution: Solution, variant: Variant | None = None, foretold: Totals | None = None
    ) -> Candidate | None:
        key = (variant or self.variant).name, solution.picked.tobytes()
        if key in self.tried:
            return self.tried[key]
        total = self.measured.estimates.total(solution.picked)
        self.sums.append(total.loss)
        totals = Totals(total.size_bytes + 7, total.latency_ms * 1.2, self.drop_of(total.loss))
        broken = self.settled.broken(totals, solution.bits, self.judge.float_totals)
        judged = Judged(0.0, total.loss, totals)
        made = Candidate(solution, self.variant, (), total, judged, broken, Path())
        self.tried[key] = made
        self._keep(made)
        return made


def searched(bounds: Bounds, drop_of: Any, seed: int = 0, rounds: int = 8) -> StandIn:
    bench = SimpleNamespace(
        problem=problem(),
        variant=Variant(),
        samples=SimpleNamespace(calibration=None),
        schedule=Schedule(),
        least=None,
    )
    judge = SimpleNamespace(
        float_totals=Totals(10600.0, 25.0, 0.0),
        timed=True,
        metric=SimpleNamespace(surrogate_of=lambda drop: drop, scatters=False),
    )
    loop = StandIn(
        cast(Any, bench),
        cast(Any, judge),
        settle(bounds, "kl"),
        Measured(estimates(seed), {}),
        cast(Any, None),
        Variant(),
        rounds,
        drop_of=drop_of,
    )
    loop.run()
    return loop


@pytest.mark.parametrize("factor", [0.05, 1.0, 30.0])
@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_bound_is_kept_and_nearly_used_up(factor: float, power: float, seed: int) -> None:
    found = searched(Bounds(max_drop=0.02), lambda loss: factor * loss**power, seed)
    assert found.best is not None
    assert found.best.holds
    allowed = (0.02 / factor) ** (1 / power)
    whole = found.measured.estimates
    floor = float(whole.loss[:, 2].sum())
    least_left = float(np.sort(whole.loss[:, 2])[0])
    # half of what is allowed, all that there is, or what the next group would have been too much for
    assert found.best.judged.surrogate >= min(0.5 * allowed, floor * 0.999, allowed - least_left) - 1e-9


def test_every_model_counts_that_keeps_the_bound_not_the_last_one() -> None:
    found = searched(Bounds(max_drop=0.02), lambda loss: loss)
    held = [made for made in found.tried.values() if made is not None and made.holds]
    assert found.best is not None
    assert found.best.judged.totals.size_bytes == min(made.judged.totals.size_bytes for made in held)


def test_a_size_that_was_missed_by_little_is_kept_the_next_time() -> None:
    """Files are 7 bytes larger than foretold: the estimate is put right."""
    found = searched(Bounds(max_size_bytes=1000 + 24 * 75, prefer="accuracy"), lambda loss: loss)
    assert len(found.tried) == 2
    assert found.best is not None
    assert found.best.judged.totals.size_bytes <= 1000 + 24 * 75


def test_nothing_is_published_where_no_model_keeps_the_bound() -> None:
    found = searched(Bounds(max_drop=1e-9), lambda loss: loss + 1.0)
    assert found.best is None
    assert found.nearest is not None


@pytest.mark.parametrize(
    ("drops", "expected"),
    [
        ((0.5, 0.9), "int8_dynamic"),
        ((0.5, 0.01), "int4"),
        ((0.01, 0.01), "int4"),
        ((0.01, 0.5), "int8_dynamic"),
    ],
)
def test_the_smallest_is_to_be_as_fast_as_what_a_user_would_take(
    drops: tuple[float, float], expected: str
) -> None:
    """Which is the smallest uniform model that keeps the bound, or the one that loses least."""
    found = searched(Bounds(max_drop=0.02), lambda loss: loss)
    large, small = Totals(2000.0, 10.0, drops[0]), Totals(1000.0, 5.0, drops[1])
    uniform = {"int8_dynamic": Judged(0.0, 0.0, large), "int4": Judged(0.0, 0.0, small)}
    found.measured = Measured(found.measured.estimates, uniform)
    assert found.measured.usual(found.settled, found.judge.float_totals) == expected


def test_what_is_slower_than_float_is_not_what_a_user_would_take() -> None:
    found = searched(Bounds(max_drop=0.02), lambda loss: loss)
    slow = {"int4": Judged(0.0, 0.0, Totals(1000.0, 30.0, 0.0))}
    assert Measured(found.measured.estimates, slow).usual(found.settled, found.judge.float_totals) == "float"


def test_bounds_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"--max-size asks for 0\.5 kB"):
        searched(Bounds(max_size_bytes=500), lambda loss: loss)


def test_a_front_holds_nothing_that_was_measured_to_be_worse() -> None:
    def point(
        size: float, latency: float, loss: float, *, measured: bool = True, chosen: bool = False
    ) -> FrontPoint:
        totals = Totals(size, latency, loss)
        return FrontPoint({}, totals, totals if measured else None, chosen)

    small, accurate = point(40, 2.0, 0.1), point(90, 1.0, 0.0)
    beaten = point(50, 2.1, 0.1)
    found = _front(
        [accurate, beaten, small, point(60, 2.5, 0.2, measured=False), point(70, 3.0, 0.3, chosen=True)]
    )
    assert [each.predicted.size_bytes for each in found] == [40, 60, 70, 90]
    assert _front([small, small]) == [small, small]  # of equals none is worse
