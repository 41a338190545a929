"""How long every kernel of a built model takes where it stands, on this machine.

A profiler's figures are of the runs that it watches, which it slows down by about a microsecond a kernel.  So each
round runs the float model, the model as it is, and the model under the profiler, one after the other: medians over
rounds see the same machine, and the kernels' times are corrected so that their sum is the time of the model that
nobody watches.  What does not fit is given to kernels in equal parts, as most of it is the call of a kernel and the
profiler's own entry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qcompiler.measure.profile import NodeTime, Profiled, node_times
from qcompiler.measure.sessions import Feed, run_checked, session_runner, timing_session
from qcompiler.package.deployed import is_deployed

ROUNDS, MIN_ROUNDS = 25, 5
FINE_ROUNDS, FINE_MS = 75, 1.0
"""Of models whose call takes so long: there a per cent is more than the call itself, and a transform costs no more."""

SECONDS = 12.0
"""Of one model."""

ROUND_MS = 4.0
"""Calls are repeated within a round until they take about so long."""

LEAST_SHARE = 0.1
"""Of a kernel's profiled time that is left when the profiler's own time is taken off."""

UNDISTURBED = 0.25
"""Quantile of a kernel's profiled times: above it are those during which another process had the core."""

STEADY = 0.25
"""Of the median that the quartiles of rounds may lie apart at most for figures to be kept for other runs."""


@dataclass(frozen=True)
class Kernel:
    """One kernel of a model: its name as the profiler gives it, what it is, and its corrected time."""

    name: str
    op_type: str
    ms: float


@dataclass(frozen=True)
class Timing:
    """A model's time.

    Attributes:
        ms: median of one run, unprofiled.
        float_ms: of the float model in the same rounds.
        kernels: what it consists of; their times add up to ``ms``.  Empty where the runtime does not say.
        steady: whether rounds agree well enough to be used again.
    """

    ms: float
    float_ms: float
    kernels: tuple[Kernel, ...]
    steady: bool = True


def time_model(path: Path, float_path: Path, feed: Feed, *, threads: int, profiled: bool = True) -> Timing:
    """Time a model beside the float one, and its kernels where its runtime can be profiled.

    One thread is timed by its own clock, which stands still while another process has the core; several, and native
    code, whose pool has threads of its own, by that of the wall.

    Raises:
        ModelError: a model cannot be loaded.
        CalibrationError: the feed does not fit.
    """
    runners = {"float": _runner(float_path, feed, threads), "plain": _runner(path, feed, threads)}
    clock = time.thread_time if threads == 1 and not is_deployed(path) else time.perf_counter
    if not profiled:
        return _timing(_rounds(runners, clock), {})
    with Profiled(path, feed, threads=threads) as watched:
        rounds = _rounds({**runners, "watched": watched.run}, clock)
        runs = watched.runs()
    return _timing(rounds, node_times(runs[len(runs) // 5 :]))


def shares_in_turns(paths: Sequence[Path], float_path: Path, feed: Feed, *, threads: int) -> list[float]:
    """Times of several models as shares of the float model's, all run in turns: what one call differs by is seen.

    Raises:
        ModelError: a model cannot be loaded.
        CalibrationError: the feed does not fit.
    """
    runners = {str(at): _runner(path, feed, threads) for at, path in enumerate([float_path, *paths])}
    native = any(is_deployed(path) for path in paths)
    rounds = _rounds(runners, time.thread_time if threads == 1 and not native else time.perf_counter)
    exact = np.array(rounds["0"])
    return [float(np.median(np.array(rounds[str(at)]) / exact)) for at in range(1, len(runners))]


def _timing(rounds: Mapping[str, Sequence[float]], times: Mapping[str, NodeTime]) -> Timing:
    """The model's time is its share of the float model's in the same rounds, which a busy machine disturbs least."""
    exact, plain = np.array(rounds["float"]), np.array(rounds["plain"])
    ratios = plain / exact
    low, middle, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    float_ms = float(np.median(exact))
    ms = float(middle) * float_ms
    return Timing(ms, float_ms, corrected(times, ms), steady=bool(high - low < STEADY * middle))


def corrected(times: Mapping[str, NodeTime], total_ms: float) -> tuple[Kernel, ...]:
    """Kernels with times that add up to ``total_ms``."""
    if not times:
        return ()
    profiled = np.array([np.quantile(item.runs_us, UNDISTURBED) / 1e3 for item in times.values()])
    each = (total_ms - profiled.sum()) / len(profiled)
    found = np.maximum(profiled + each, LEAST_SHARE * profiled)
    found *= total_ms / max(found.sum(), 1e-12)
    return tuple(
        Kernel(item.name, item.op_type, float(ms)) for item, ms in zip(times.values(), found, strict=True)
    )


def _runner(path: Path, feed: Feed, threads: int) -> Callable[[], None]:
    session = timing_session(path, threads=threads)
    run_checked(session, [feed], model=str(path))
    return session_runner(session, [feed])


def _rounds(runners: Mapping[str, Callable[[], None]], clock: Callable[[], float]) -> dict[str, list[float]]:
    """Milliseconds a call of every runner, round by round; one call at each switch is not timed."""
    once = {name: max(_call_ms(run), 1e-3) for name, run in runners.items()}
    calls = {name: max(1, round(ROUND_MS / ms)) for name, ms in once.items()}
    found: dict[str, list[float]] = {name: [] for name in runners}
    started = time.perf_counter()
    for count in range(FINE_ROUNDS if min(once.values()) >= FINE_MS else ROUNDS):
        if count >= MIN_ROUNDS and time.perf_counter() - started > SECONDS:
            break
        for name, run in runners.items():
            run()
            before = clock()
            for _ in range(calls[name]):
                run()
            found[name].append(max(clock() - before, 1e-7) * 1e3 / calls[name])
    return found


def _call_ms(run: Callable[[], None]) -> float:
    run()
    before = time.perf_counter()
    run()
    return (time.perf_counter() - before) * 1e3
