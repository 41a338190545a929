"""Where text goes: stdout, in colour on a terminal only, and never narrower than is readable."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

PIPED_WIDTH = 100
"""Columns where stdout is no terminal."""


def stdout_console() -> Console:
    """A console on stdout; markup is off because node names contain brackets."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    return console


def plain_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines; ``right`` names the columns of numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        is_number = column in right
        table.add_column(column, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return table
