"""Timings are compared with those that were made while the float model took as long; the timings are stand-ins."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from qcompiler.auto.latency.alike import TRIES, as_busy, is_alike, least_busy
from qcompiler.auto.latency.in_situ import Timing


def stand_in(float_ms: Sequence[float]) -> tuple[Callable[[], Timing], list[float]]:
    """Timings in which the float model takes so long, and those that were made."""
    given, made = iter(float_ms), []

    def measure() -> Timing:
        made.append(next(given))
        return Timing(made[-1] / 2, made[-1], ())

    return measure, made


def test_a_twentieth_is_alike() -> None:
    assert is_alike(Timing(1.0, 1.049, ()), 1.0)
    assert not is_alike(Timing(1.0, 1.051, ()), 1.0)
    assert not is_alike(Timing(1.0, 0.949, ()), 1.0)


def test_the_standard_is_the_least_busy_one() -> None:
    measure, made = stand_in([1.2, 1.0, 1.1, 0.1])
    assert least_busy(measure).float_ms == 1.0
    assert len(made) == TRIES


@pytest.mark.parametrize(
    ("float_ms", "expected", "count"),
    [
        ([1.01, 1.0], 1.01, 1),
        ([1.3, 1.02, 1.0], 1.02, 2),
        ([1.3, 1.1, 0.8, 1.0], 1.1, TRIES),  # the nearest of them
    ],
)
def test_others_are_as_busy(float_ms: Sequence[float], expected: float, count: int) -> None:
    measure, made = stand_in(float_ms)
    assert as_busy(measure, 1.0).float_ms == expected
    assert len(made) == count
