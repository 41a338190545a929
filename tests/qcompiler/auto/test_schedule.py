"""The time that is left: steps of each kind, times what one takes; the clock is a stand-in."""

from __future__ import annotations

import pytest

from qcompiler.auto.schedule import GUESS, Schedule


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("qcompiler.auto.schedule.time.monotonic", lambda: now[0])
    return now


def planned() -> Schedule:
    schedule = Schedule()
    schedule.plan("uniform", 4)
    schedule.plan("losses", 4)
    schedule.plan("candidates", 2)
    return schedule


def test_nothing_is_said_before_a_model_was_judged(clock: list[float]) -> None:
    schedule = planned()
    schedule.begin("uniform")
    clock[0] += 5.0
    assert schedule.left_seconds() is None
    assert schedule.in_tenths() == (0, None)


def test_other_kinds_are_guessed_from_uniform_models_until_one_was_done(clock: list[float]) -> None:
    schedule = planned()
    schedule.begin("uniform")
    clock[0] += 10.0
    schedule.end()
    others = 4 * 10.0 * GUESS["losses"] + 2 * 10.0 * GUESS["candidates"]
    assert schedule.left_seconds() == pytest.approx(3 * 10.0 + others)
    schedule.begin("candidates")
    clock[0] += 7.0
    schedule.end()
    one = (7.0 + 10.0 * GUESS["candidates"]) / 2  # the guess still counts
    assert schedule.left_seconds() == pytest.approx(3 * 10.0 + 4 * 10.0 * GUESS["losses"] + one)
    assert schedule.in_tenths()[0] == 170


def test_a_step_that_has_begun_counts_for_what_is_left_of_it(clock: list[float]) -> None:
    schedule = Schedule(left={"uniform": 2, "losses": 4}, took={"uniform": [10.0]})
    schedule.begin("losses")
    expected = 4 * 10.0 * GUESS["losses"]
    clock[0] += 0.25 * expected
    assert schedule.left_seconds() == pytest.approx(2 * 10.0 + 0.75 * expected)
    schedule.follow("measuring what int4 costs", 1, 2)  # half of it took a quarter of what was expected
    assert schedule.left_seconds() == pytest.approx(2 * 10.0 + 0.25 * expected)
    schedule.follow("calibrating", 1, 100)
    assert schedule.left_seconds() == pytest.approx(2 * 10.0 + 0.25 * expected)


def test_what_a_journal_knows_counts_for_what_it_once_took(clock: list[float]) -> None:
    schedule = planned()
    schedule.begin("uniform")
    clock[0] += 0.01
    schedule.end(30.0)
    schedule.begin("uniform")
    left = schedule.left_seconds()
    assert left == pytest.approx(30.0 * (3 + 4 * GUESS["losses"] + 2 * GUESS["candidates"]))
