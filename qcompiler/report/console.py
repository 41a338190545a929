"""Where text goes: stdout, in colour on a terminal only."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

PIPED_WIDTH = 160
"""Columns where stdout is no terminal: node names stay on one line, to be searched for."""


def stdout_console() -> Console:
    """A console on stdout; markup is off because node names contain brackets."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    return console


def plain_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines; ``right`` names the columns of numbers."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in columns:
        is_number = column in right
        table.add_column(column, justify="right" if is_number else "left", no_wrap=is_number, overflow="fold")
    return table


def heading(console: Console, text: str) -> None:
    """The title of a section, after an empty line."""
    console.print(f"\n{text}", style="bold")


def print_table(console: Console, table: Table) -> None:
    """A table, indented below its heading."""
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def print_text(console: Console, text: str | Text | Padding, style: str = "") -> None:
    """A paragraph, indented below its heading."""
    content = Text(text, style=style) if isinstance(text, str) else text
    console.print(Padding(content, (0, 0, 0, 2), expand=False))


def print_list(console: Console, lines: Sequence[str], style: str = "") -> None:
    """Points with a hanging indent."""
    grid = Table.grid(padding=(0, 1, 0, 0))
    for line in lines:
        grid.add_row(Text("-"), Text(line, style=style))
    print_table(console, grid)
