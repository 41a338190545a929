"""A model is timed until two timings agree; the timings are stand-ins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from qcompiler.auto.latency.deployed import TIMINGS, measured_ms
from qcompiler.auto.latency.in_situ import Timing


@pytest.mark.parametrize(
    ("ratios", "expected", "count"),
    [
        ([0.50, 0.505, 9.0], 0.5025, 2),
        ([0.50, 0.60, 0.51, 9.0], 0.51, 3),  # of 0.50, 0.51 and 0.60
        ([0.5, 0.6, 0.7, 0.8, 0.9, 9.0], 0.7, TIMINGS),
    ],
)
def test_two_that_agree_are_enough(
    monkeypatch: pytest.MonkeyPatch, ratios: Sequence[float], expected: float, count: int
) -> None:
    given, float_ms = iter(ratios), 4.0
    asked = []

    def timed(*_: object, **__: object) -> Timing:
        asked.append(next(given))
        return Timing(asked[-1] * float_ms, float_ms, ())

    monkeypatch.setattr("qcompiler.auto.latency.deployed.time_model", timed)
    bench = SimpleNamespace(samples=SimpleNamespace(held_out=[{}]), float_path=Path(), threads=1)
    assert measured_ms(Path(), cast(Any, bench), 3.9) == pytest.approx(3.9 * expected)
    assert len(asked) == count


@pytest.mark.parametrize(
    ("timings", "expected", "count"),
    [
        ([(0.6, 5.0), (0.61, 5.0), (0.5, 4.0), (0.505, 4.1), (9.0, 4.0)], 0.5025, 4),
        ([(0.6, 5.0), (0.61, 5.0), (0.5, 4.0), (0.62, 5.0), (0.63, 5.0), (9.0, 4.0)], 0.5, TIMINGS),
        ([(0.6, 5.0), (0.61, 5.0), (0.62, 5.0), (0.63, 5.0), (0.64, 5.0), (9.0, 4.0)], 0.62, TIMINGS),
    ],
)
def test_timings_of_a_busier_machine_do_not_count(
    monkeypatch: pytest.MonkeyPatch, timings: Sequence[tuple[float, float]], expected: float, count: int
) -> None:
    """Unless there are no others."""
    made = [Timing(ratio * float_ms, float_ms, ()) for ratio, float_ms in timings]
    given = iter(made)
    monkeypatch.setattr("qcompiler.auto.latency.deployed.time_model", lambda *_, **__: next(given))
    bench = SimpleNamespace(samples=SimpleNamespace(held_out=[{}]), float_path=Path(), threads=1)
    assert measured_ms(Path(), cast(Any, bench), 4.0) == pytest.approx(4.0 * expected)
    assert next(given) is made[count]


def test_long_ones_are_not_repeated_where_rounds_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 7.0, 20.0])
    monkeypatch.setattr("qcompiler.auto.latency.deployed.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("qcompiler.auto.latency.deployed.time_model", lambda *_, **__: Timing(3.0, 4.0, ()))
    bench = SimpleNamespace(samples=SimpleNamespace(held_out=[{}]), float_path=Path(), threads=1)
    assert measured_ms(Path(), cast(Any, bench), 4.0) == 3.0
