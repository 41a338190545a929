"""Latency of several runners, interleaved: A B C A B C ...

A machine changes while one measures (clock, caches, neighbours), so each round times every runner once, side by side,
and only ratios within a round are compared (``qcompiler.measure.ratio``). At each switch one call is made and not
timed: it brings back the caches that the other runner took. Sessions must be made without spinning threads, or an
idle one distorts the others by up to 3x (``qcompiler.measure.sessions`` does so).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from qcompiler.measure.ratio import Ratio, paired_ratio

Runner = Callable[[], object]

MIN_ROUNDS = 3
"""Fewer rounds have no median worth the name: this many are made even when the time budget is used up."""

SETTLE_BELOW_SECONDS = 0.2
"""A longer call reloads its caches in a small part of its own time, so no untimed call is spent on it."""

WARMUP_SHARE = 0.2
"""Part of the time budget that warming up may take."""


@dataclass(frozen=True)
class LatencyStats:
    """Milliseconds per call of one runner.

    Attributes:
        rounds_ms: mean of the calls of each round, in the order of the rounds.
        calls_per_round: timed calls in each round.
    """

    rounds_ms: tuple[float, ...]
    calls_per_round: int

    @property
    def median_ms(self) -> float:
        return float(np.median(self.rounds_ms))

    @property
    def quartiles_ms(self) -> tuple[float, float]:
        """First and third quartile of the rounds: the spread, untouched by a few disturbed rounds."""
        low, high = np.quantile(self.rounds_ms, (0.25, 0.75))
        return float(low), float(high)

    @property
    def best_ms(self) -> float:
        return min(self.rounds_ms)


def measure_latency(
    runners: Mapping[str, Runner],
    *,
    rounds: int = 15,
    min_round_ms: float = 5.0,
    warmup_calls: int = 3,
    max_seconds: float = 20.0,
    settle_below_seconds: float = SETTLE_BELOW_SECONDS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, LatencyStats]:
    """Time all runners in interleaved rounds.

    Args:
        runners: what to call, by name; at least one.
        rounds: rounds wanted.
        min_round_ms: calls are repeated within a round until they take about this long.
        warmup_calls: untimed calls of each runner before the first round, fewer when they are long (at least 1).
        max_seconds: time budget of the whole measurement. Rounds are left out to keep it, down to
            ``MIN_ROUNDS``; the smallest measurement is one call of each runner and ``MIN_ROUNDS`` rounds.
        settle_below_seconds: runners with shorter calls get the untimed call at each switch.
        clock: seconds, monotonic.

    Returns:
        Statistics by runner, all with the same number of rounds.
    """
    if not runners or rounds < 1 or warmup_calls < 1:
        raise ValueError("needs at least one runner, one round and one call to warm up")
    started = clock()
    warmup_seconds = max_seconds * WARMUP_SHARE / len(runners)
    seconds = {name: _warm_up(run, warmup_calls, warmup_seconds, clock) for name, run in runners.items()}
    calls = {name: max(1, math.ceil(min_round_ms / 1e3 / cost)) for name, cost in seconds.items()}
    settle = {name: cost < settle_below_seconds for name, cost in seconds.items()}
    measured: dict[str, list[float]] = {name: [] for name in runners}
    for index in range(rounds):
        round_started = clock()
        for name, run in runners.items():
            measured[name].append(_time_round(run, calls[name], clock, settle=settle[name]))
        now = clock()
        if index + 1 >= MIN_ROUNDS and now + (now - round_started) > started + max_seconds:
            break
    return {name: LatencyStats(tuple(times), calls[name]) for name, times in measured.items()}


def speed_ratio(baseline: LatencyStats, variant: LatencyStats, *, confidence: float = 0.95) -> Ratio:
    """How many times faster the variant is than the baseline of the same measurement."""
    return paired_ratio(baseline.rounds_ms, variant.rounds_ms, confidence=confidence)


def _warm_up(run: Runner, calls: int, max_seconds: float, clock: Callable[[], float]) -> float:
    """Return seconds of the fastest warm-up call (at least a nanosecond, so that it can be divided by)."""
    started = clock()
    fastest = math.inf
    for _ in range(calls):
        before = clock()
        run()
        fastest = min(fastest, clock() - before)
        if clock() - started > max_seconds:
            break
    return max(fastest, 1e-9)


def _time_round(run: Runner, calls: int, clock: Callable[[], float], *, settle: bool) -> float:
    """Return milliseconds per call."""
    if settle:
        run()
    before = clock()
    for _ in range(calls):
        run()
    return max((clock() - before) * 1e3 / calls, 1e-6)
