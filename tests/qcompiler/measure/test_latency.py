from __future__ import annotations

from collections.abc import Callable

import pytest

from qcompiler.measure.latency import MIN_ROUNDS, measure_latency, speed_ratio


class Clock:
    """Time that passes only when a runner says so."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.calls: list[str] = []

    def __call__(self) -> float:
        return self.seconds

    def runner(self, name: str, cost_seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.seconds += cost_seconds
            self.calls.append(name)

        return run


def test_latency_is_the_cost_of_a_call() -> None:
    clock = Clock()
    runners = {"a": clock.runner("a", 0.004), "b": clock.runner("b", 0.001)}
    stats = measure_latency(runners, rounds=9, clock=clock)
    # Sums of binary fractions: rounding only.
    assert stats["a"].median_ms == pytest.approx(4.0)
    assert stats["b"].quartiles_ms == pytest.approx((1.0, 1.0))
    assert stats["a"].best_ms == pytest.approx(4.0)
    assert speed_ratio(stats["a"], stats["b"]).median == pytest.approx(4.0)


def test_rounds_are_interleaved_and_short_calls_repeated() -> None:
    clock = Clock()
    runners = {"a": clock.runner("a", 0.01), "b": clock.runner("b", 0.002)}
    stats = measure_latency(runners, rounds=4, warmup_calls=1, min_round_ms=5.0, clock=clock)
    assert (stats["a"].calls_per_round, stats["b"].calls_per_round) == (1, 3)
    one_round = ["a"] * (1 + 1) + ["b"] * (1 + 3)  # one call to settle, then the timed ones
    assert clock.calls == ["a", "b", *one_round * 4]
    assert len(stats["a"].rounds_ms) == len(stats["b"].rounds_ms) == 4


def test_budget_of_time_is_kept() -> None:
    clock = Clock()
    runners = {"a": clock.runner("a", 0.1), "b": clock.runner("b", 0.1)}
    stats = measure_latency(runners, rounds=1000, max_seconds=5.0, clock=clock)
    assert clock.seconds <= 5.0
    assert MIN_ROUNDS < len(stats["a"].rounds_ms) < 1000


def test_slow_runners_get_one_call_to_warm_up_and_the_fewest_rounds() -> None:
    clock = Clock()
    stats = measure_latency({"a": clock.runner("a", 60.0)}, max_seconds=5.0, clock=clock)
    assert len(stats["a"].rounds_ms) == MIN_ROUNDS
    assert len(clock.calls) == 1 + MIN_ROUNDS


def test_a_clock_too_coarse_to_see_a_call_gives_no_zero() -> None:
    clock = Clock()
    stats = measure_latency({"a": clock.runner("a", 0.0)}, rounds=1, min_round_ms=1e-5, clock=clock)
    assert stats["a"].median_ms > 0


def test_refuses_nothing_to_measure() -> None:
    with pytest.raises(ValueError, match="at least one runner"):
        measure_latency({})
