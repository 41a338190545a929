"""Timings that were made while the machine was as busy as when others were made.

What another program does to the caches and the clock slows integer kernels down by more than float ones: on a virtual
machine of two cores ResNet-20 in int8 took 0.49 of the float model's time in one minute and 0.62 in the next, both
steadily.  The float model's own time in the same rounds tells these minutes apart (0.55 and 0.65 ms), so models are
compared by timings in which it is about the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from qcompiler.auto.latency.in_situ import Timing

ALIKE = 0.05
"""Of the float model's time that two timings in one state of the machine differ by at most."""
TRIES = 3


def is_alike(timing: Timing, float_ms: float) -> bool:
    """Whether the machine was as busy as when the float model took so long."""
    return abs(timing.float_ms - float_ms) <= ALIKE * float_ms


def least_busy(measure: Callable[[], Timing]) -> Timing:
    """Of :data:`TRIES` timings the one in which the float model was fastest: what others are compared with."""
    return min((measure() for _ in range(TRIES)), key=lambda timing: timing.float_ms)


def as_busy(measure: Callable[[], Timing], float_ms: float) -> Timing:
    """The first timing in which the float model took so long; where :data:`TRIES` have none, the nearest one."""
    found: list[Timing] = []
    for _ in range(TRIES):
        found.append(measure())
        if is_alike(found[-1], float_ms):
            return found[-1]
    return min(found, key=lambda timing: abs(math.log(timing.float_ms / float_ms)))
