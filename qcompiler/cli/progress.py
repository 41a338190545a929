"""Progress of long steps on stderr: shown on a terminal only, gone when done."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from qcompiler.cli.logs import is_quiet

Progress = Callable[[str, int, int | None], None]


@contextlib.contextmanager
def progress_display(title: str) -> Iterator[Progress | None]:
    """Show ``title`` and the time since the start; yield a function that shows ``label, done, total`` below it,
    the last label alone.

    Yields None where nobody would see it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Display

    console = Console(stderr=True)
    if not console.is_terminal or is_quiet():
        yield None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
    )
    tasks: dict[str, TaskID] = {}
    with Display(*columns, TimeElapsedColumn(), console=console, transient=True) as display:
        display.add_task(title, total=None, count="")

        def show(label: str, done: int, total: int | None) -> None:
            if label not in tasks:
                for (
                    earlier
                ) in tasks.values():  # a model of many layers has more segments than a screen has lines
                    display.update(earlier, visible=False)
                tasks[label] = display.add_task(label, total=total, count="")
            count = str(done) if total is None else f"{done}/{total}"
            display.update(tasks[label], completed=done, total=total, count=count, visible=True)

        yield show
