"""The fastest of models that separate timings hardly tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from qcompiler.auto.bounds import settle
from qcompiler.auto.facts import Bounds, Totals
from qcompiler.auto.judge import Judged
from qcompiler.auto.play_off import play_off
from qcompiler.auto.solve import Solution
from qcompiler.auto.tried import Candidate
from qcompiler.auto.variants import Variant

SETTLED = settle(Bounds(max_drop=0.02, max_latency_ms=4.5, prefer="speed"), "kl")


def candidate(name: str, ms: float, surrogate: float = 0.01) -> Candidate:
    totals = Totals(100.0, ms, 0.01)
    solution = Solution(np.zeros(1, np.int64), totals, 8.0)
    return Candidate(solution, Variant(), (), totals, Judged(0.0, surrogate, totals), (), Path(name))


def played(held: Sequence[Candidate], in_turns: Mapping[str, float]) -> tuple[list[str], list[str]]:
    """Names best first, and those that were timed in turns."""
    timed: list[str] = []

    def latencies(models: Mapping[str, Path]) -> list[float]:
        timed.extend(str(path) for path in models.values())
        return [in_turns[str(path)] for path in models.values()]

    judge = SimpleNamespace(latencies_ms=latencies, float_totals=Totals(400.0, 12.0, 0.0))
    names = iter(range(99))
    found = play_off(held, cast(Any, judge), SETTLED, lambda _: str(next(names)))
    return [str(each.path) for each in found], timed


def test_timing_in_turns_decides_between_models_that_are_near() -> None:
    held = [candidate("a", 4.00), candidate("b", 4.10), candidate("far", 4.40)]
    order, timed = played(held, {"a": 4.2, "b": 4.0})
    assert timed == ["a", "b"]
    assert order == ["b", "a"]


def test_of_equal_times_the_smaller_loss_wins() -> None:
    held = [candidate("lossy", 4.00, 0.02), candidate("near", 4.05, 0.01)]
    assert played(held, {"lossy": 4.00, "near": 4.03})[0] == ["near", "lossy"]
    assert played(held, {"lossy": 4.00, "near": 4.09})[0] == ["lossy", "near"]


def test_a_model_alone_is_not_timed_again() -> None:
    assert played([candidate("one", 4.0), candidate("slow", 4.4)], {}) == (["one"], [])


def test_new_times_must_keep_the_bounds_where_one_does() -> None:
    held = [candidate("a", 4.4), candidate("b", 4.45)]
    assert played(held, {"a": 4.6, "b": 4.4})[0] == ["b"]
    assert set(played(held, {"a": 4.6, "b": 4.7})[0]) == {"a", "b"}


def test_a_candidate_says_what_it_was_timed_at_in_turns() -> None:
    judge = SimpleNamespace(latencies_ms=lambda models: [4.3, 4.2], float_totals=Totals(400.0, 12.0, 0.0))
    names = iter("ab")
    found = play_off(
        [candidate("a", 4.0), candidate("b", 4.1)], cast(Any, judge), SETTLED, lambda _: next(names)
    )
    assert [each.judged.totals.latency_ms for each in found] == [4.2, 4.3]


def test_one_pipeline_is_timed_once_whoever_found_it() -> None:
    judge = SimpleNamespace(latencies_ms=None, float_totals=Totals(400.0, 12.0, 0.0))
    held = [candidate("a", 4.0), candidate("again", 4.1)]
    assert play_off(held, cast(Any, judge), SETTLED, lambda _: "same") == held[:1]
