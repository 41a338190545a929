"""Progress of long steps on stderr: shown on a terminal only, gone when done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from qcompiler.cli.logs import is_quiet
from qcompiler.sequential import SEARCH, SEGMENTS

if TYPE_CHECKING:
    from rich.progress import Progress as Display
    from rich.progress import ProgressColumn, Task, TaskID

Progress = Callable[[str, int, int | None], None]

BAR_WIDTH = 20
STAYING = frozenset({SEGMENTS, SEARCH})
"""Labels that stay above what is done within them."""


@contextlib.contextmanager
def progress_display(title: str) -> Iterator[Progress | None]:
    """Show ``title`` and the time since the start; yield a function that shows ``label, done, total`` below it.

    The last label is shown alone, but for segments, which stay above what is done within one.  Yields None where
    nobody would see it.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal or is_quiet():
        yield None
        return
    from rich.progress import BarColumn, SpinnerColumn, TextColumn
    from rich.progress import Progress as Display

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=BAR_WIDTH),
        TextColumn("{task.fields[count]}"),
    )
    with Display(*columns, _time_column(), console=console, transient=True) as display:
        display.add_task(title, total=None, count="")
        yield Lines(display)


class Lines:
    """A line for segments while there are any, and one for the step at hand."""

    def __init__(self, display: Display) -> None:
        self._display = display
        self._tasks: dict[str, TaskID] = {}

    def __call__(self, label: str, done: int, total: int | None) -> None:
        """Show that ``done`` of ``total`` steps are done."""
        if label not in self._tasks:
            self._tasks[label] = self._display.add_task(label, total=total, count="")
        for other, task in self._tasks.items():
            if other != label and other not in STAYING and label not in STAYING:
                self._display.update(task, visible=False)
        over = label == SEGMENTS and done == total
        count = "" if total is None else f"{done}/{total}"
        if label == SEARCH and total:  # in time, not in steps
            count = f"{done / total:.0%}"
        self._display.update(self._tasks[label], completed=done, total=total, count=count, visible=not over)


def time_left(elapsed_s: float | None, done: float, total: float | None) -> str:
    """The time since a step began, and about how much is left where that can be told."""
    elapsed = int(elapsed_s or 0)
    if not total or not 0 < done < total:
        return _minutes(elapsed)
    return f"{_minutes(elapsed)}, about {_minutes(round(elapsed / done * (total - done)))} left"


def _minutes(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _time_column() -> ProgressColumn:
    from rich.progress import ProgressColumn
    from rich.text import Text

    class TimeColumn(ProgressColumn):
        """Time since the start of a step, and what is left of it."""

        def render(self, task: Task) -> Text:
            elapsed = task.finished_time if task.finished else task.elapsed
            return Text(time_left(elapsed, task.completed, task.total), style="progress.elapsed")

    return TimeColumn()
