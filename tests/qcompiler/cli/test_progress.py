"""What is shown of a long compile, and how long it is said to take."""

import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from qcompiler.cli.progress import Lines, time_left
from qcompiler.sequential import SEARCH, SEGMENTS


def shown(lines: Lines, display: Progress) -> list[str]:
    return [task.description for task in display.tasks if task.visible]


def test_segments_stay_above_the_step_at_hand() -> None:
    display = Progress(TextColumn("{task.description}"), console=Console(file=io.StringIO()))
    tell = Lines(display)
    tell("observing", 3, 3)
    tell(SEGMENTS, 0, 2)
    tell("segment 1 of 2", 1, 8)
    assert shown(tell, display) == [SEGMENTS, "segment 1 of 2"]
    tell("segment 1: gptq", 0, 3)
    assert shown(tell, display) == [SEGMENTS, "segment 1: gptq"]
    tell(SEGMENTS, 2, 2)
    tell("lowering", 0, None)
    assert shown(tell, display) == ["lowering"]


def test_a_search_is_told_in_shares_of_its_time() -> None:
    display = Progress(TextColumn("{task.description}"), console=Console(file=io.StringIO()))
    tell = Lines(display)
    tell(SEARCH, 0, None)
    tell("measuring sizes", 1, 4)
    tell(SEARCH, 300, 1200)
    assert shown(tell, display) == [SEARCH, "measuring sizes"]
    assert [task.fields["count"] for task in display.tasks] == ["25%", "1/4"]
    assert time_left(30, display.tasks[0].completed, display.tasks[0].total) == "0:30, about 1:30 left"


@pytest.mark.parametrize(
    ("elapsed", "done", "total", "text"),
    [
        (30, 1, 4, "0:30, about 1:30 left"),
        (30, 0, 4, "0:30"),  # nothing to judge by
        (30, 4, 4, "0:30"),
        (30, 2, None, "0:30"),
        (None, 0, None, "0:00"),
        (7200, 1, 2, "2:00:00, about 2:00:00 left"),
    ],
)
def test_time_left_goes_by_what_is_done(elapsed: float, done: float, total: float | None, text: str) -> None:
    assert time_left(elapsed, done, total) == text
