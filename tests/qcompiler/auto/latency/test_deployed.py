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
    assert measured_ms(Path(), cast(Any, bench), 10.0) == pytest.approx(10.0 * expected)
    assert len(asked) == count


def test_long_ones_are_not_repeated_where_rounds_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 7.0, 20.0])
    monkeypatch.setattr("qcompiler.auto.latency.deployed.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("qcompiler.auto.latency.deployed.time_model", lambda *_, **__: Timing(3.0, 4.0, ()))
    bench = SimpleNamespace(samples=SimpleNamespace(held_out=[{}]), float_path=Path(), threads=1)
    assert measured_ms(Path(), cast(Any, bench), 4.0) == 3.0
