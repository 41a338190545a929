"""How long one run of a deployed model takes, as a whole.

One timing has a session of its own, whose memory may lie well or badly, and sees the machine for a second or two.  So a
model is timed again until two timings agree that were made on a machine as busy as the table's (``alike``), and their
median counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcompiler.auto.facts import Workbench
from qcompiler.auto.latency.alike import is_alike
from qcompiler.auto.latency.in_situ import Timing, shares_in_turns, time_model
from qcompiler.auto.latency.table import timing_feed

AGREE = 0.02
"""Timings that lie this near one another agree."""
TIMINGS = 5
"""At most."""
SESSIONS = 3
"""Of each model, where several are compared: memory of one may lie well, and that is 2 to 4 per cent."""
SECONDS, MOST_SECONDS = 6.0, 15.0
"""After so long one whose rounds agree is enough, and one on a machine that is busier, or less busy, than before."""


def measured_ms(path: Path, bench: Workbench, float_ms: float) -> float:
    """Milliseconds of one run of a deployed model, timed beside the float model, in the measure of a table.

    Args:
        path: the model.
        bench: names the float model, the feed and the threads.
        float_ms: of the table that predicted it.
    """
    feed, started = timing_feed(bench), time.monotonic()
    found: list[Timing] = []
    while len(found) < TIMINGS and not _agree(_ratios(found, float_ms)):
        timing = time_model(path, bench.float_path, feed, threads=bench.threads, profiled=False)
        found.append(timing)
        enough = SECONDS if is_alike(timing, float_ms) else MOST_SECONDS
        if timing.steady and time.monotonic() - started > enough:
            break
    return statistics.median(_ratios(found, float_ms) or _ratios(found)) * float_ms


def measured_in_turns(paths: Sequence[Path], bench: Workbench, float_ms: float) -> list[float]:
    """Milliseconds of several deployed models, timed in turns in :data:`SESSIONS` sessions of each.

    Args:
        paths: the models.
        bench: names the float model, the feed and the threads.
        float_ms: of the table that predicted them.
    """
    feed = timing_feed(bench)
    found = [shares_in_turns(paths, bench.float_path, feed, threads=bench.threads) for _ in range(SESSIONS)]
    return [float(share) * float_ms for share in np.median(np.array(found), axis=0)]


def _ratios(timings: Sequence[Timing], float_ms: float | None = None) -> list[float]:
    """Shares of the float model's time, of all timings or of those in which it took so long."""
    return [each.ms / each.float_ms for each in timings if float_ms is None or is_alike(each, float_ms)]


def _agree(ratios: Sequence[float]) -> bool:
    return len(ratios) > 1 and float(np.diff(np.sort(ratios)).min()) <= AGREE * statistics.median(ratios)
