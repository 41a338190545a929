"""Passes and targets with their options, for ``qcompile passes`` and ``qcompile targets``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console

from qcompiler.pipeline.options import OptionInfo, describe
from qcompiler.report.console import plain_table, print_table, stdout_console


@dataclass(frozen=True)
class Entry:
    """One pass or target.

    Attributes:
        summary: first paragraph of its docstring.
        details: documentation of its module: formula, paper, when it refuses.
        remark: "needs data", or why it cannot be used here; empty otherwise.
    """

    name: str
    summary: str
    remark: str
    options: tuple[OptionInfo, ...]
    details: str


def catalog(kind: str, names: Sequence[str], find: Callable[[str], type]) -> list[Entry]:
    """Describe passes or targets by name.

    Raises:
        OptionError: an unknown name.
    """
    return [_entry(kind, name, find) for name in names]


def _entry(kind: str, name: str, find: Callable[[str], type]) -> Entry:
    try:
        found: Any = find(name)
    except (ImportError, AttributeError) as error:  # another package's pass, or one that needs an extra
        return Entry(name, "", f"cannot be loaded: {error}", (), "")
    summary = inspect.getdoc(found) or ""
    details = inspect.getdoc(inspect.getmodule(found)) or ""
    remark = _pass_remark(found) if kind == "pass" else found().available() or ""
    return Entry(name, summary.split("\n\n")[0].replace("\n", " "), remark, tuple(describe(found)), details)


def _pass_remark(found: Any) -> str:
    return "needs calibration data" if found.needs_data else "needs no data"


def print_catalog(entries: Sequence[Entry]) -> None:
    """Print one entry in full, or several as a list with their options."""
    console = stdout_console()
    for index, entry in enumerate(entries):
        if index:
            console.print()
        _show_entry(console, entry, in_full=len(entries) == 1)


def _show_entry(console: Console, entry: Entry, *, in_full: bool) -> None:
    console.print(entry.name, style="bold", end="")
    console.print(f"  ({entry.remark})" if entry.remark else "")
    if entry.summary:
        console.print(f"  {entry.summary}", soft_wrap=not console.is_terminal)
    if entry.options:
        table = plain_table("option", "type", "default", "meaning")
        for option in entry.options:
            table.add_row(option.name, _kind(option), _text(option.default), option.help)
        print_table(console, table)
    else:
        console.print("  no options")
    if in_full and entry.details:
        console.print(f"\n{entry.details}", soft_wrap=True)


def _kind(option: OptionInfo) -> str:
    if option.choices:
        return " | ".join(option.choices)
    low, high = option.minimum, option.maximum
    if low is not None and high is not None:
        return f"{option.type} {low}..{high}"
    if low is not None:
        return f"{option.type} >= {low}"
    return f"{option.type} <= {high}" if high is not None else option.type


def _text(value: object) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
