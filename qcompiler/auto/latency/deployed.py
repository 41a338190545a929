"""How long one run of a deployed model takes, as a whole.

One timing has a session of its own, whose memory may lie well or badly, and sees the machine for a second or two.  So a
model is timed again until two timings agree, and the median counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qcompiler.auto.facts import Workbench
from qcompiler.auto.latency.in_situ import time_model
from qcompiler.auto.latency.table import timing_feed

AGREE = 0.02
"""Timings that lie this near one another agree."""
TIMINGS = 5
"""At most."""
SECONDS = 6.0
"""After so long one whose rounds agree is enough."""


def measured_ms(path: Path, bench: Workbench, float_ms: float) -> float:
    """Milliseconds of one run of a deployed model, timed beside the float model, in the measure of a table.

    Args:
        path: the model.
        bench: names the float model, the feed and the threads.
        float_ms: of the table that predicted it.
    """
    feed, started = timing_feed(bench), time.monotonic()
    found: list[float] = []
    while len(found) < TIMINGS and not _agree(found):
        timing = time_model(path, bench.float_path, feed, threads=bench.threads, profiled=False)
        found.append(timing.ms / timing.float_ms)
        if timing.steady and time.monotonic() - started > SECONDS:
            break
    return statistics.median(found) * float_ms


def _agree(ratios: Sequence[float]) -> bool:
    return len(ratios) > 1 and float(np.diff(np.sort(ratios)).min()) <= AGREE * statistics.median(ratios)
