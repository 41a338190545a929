"""Putting the page where the user wants it; what would keep it from being written is found before anything runs."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from qcompiler.errors import OutputError
from qcompiler.report.html.render import render, require_libraries

if TYPE_CHECKING:
    from qcompiler.calibration.collect import Progress
    from qcompiler.report.facts import CompileFacts
    from qcompiler.report.html.page import Page
    from qcompiler.report.search_facts import SearchFacts
    from qcompiler.result import CompileResult

SUFFIXES = (".html", ".htm")


def require_writable(path: Path) -> None:
    """Refuse early what could not be written in the end.

    Raises:
        OutputError: no place for a page, or one that cannot be written.
        UnsupportedError: what makes pages is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(
            f"the report {path} does not end in .html; give it such a name, that it replaces no model."
        )
    if path.is_dir():
        raise OutputError(
            f"the report {path} is a folder; give the name of a file in it: {path}/report.html."
        )
    place = next(folder for folder in path.absolute().parents if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise OutputError(
            f"the report {path} cannot be written: {place} is no folder that can be written to."
        )
    require_libraries()


def write_page(page: Page, path: Path) -> None:
    """Write the page under another name, and rename it: what was there before is whole until then.

    Raises:
        OutputError: the disk is full, or the path cannot be written.
        UnsupportedError: what makes pages is not installed.
    """
    require_writable(path)
    text = render(page)
    scratch: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, suffix=".tmp", delete=False
        ) as file:
            scratch = file.name
            file.write(text)
        os.chmod(scratch, 0o644)
        Path(scratch).replace(path)
    except OSError as error:
        if scratch is not None:
            with contextlib.suppress(OSError):
                Path(scratch).unlink()
        raise OutputError(
            f"the report {path} cannot be written: {error.strerror or error}; choose another place."
        ) from error


def report_result(
    result: CompileResult,
    path: Path,
    *,
    facts: CompileFacts | None = None,
    command: str = "",
    search: SearchFacts | None = None,
    progress: Progress | None = None,
) -> Path:
    """Collect and write the report of a compile that has just ended; return where it is.

    Args:
        facts: of the result, gathered if not given.
        command: what made it, as typed; spelled from the manifest if not given.
        search: that it was part of.
        progress: called with a label, steps done, and steps in all where known.

    Raises:
        OutputError: the file cannot be written.
        UnsupportedError: what makes pages is not installed.
        ModelError: the result does not know what it was compiled from.
    """
    from qcompiler.report.gather import gather
    from qcompiler.report.html.collect import collect
    from qcompiler.report.html.sources import sources_of_result

    require_writable(path)
    found = facts
    if found is None:
        threads = result.origin.options.threads if result.origin is not None else 1
        found = gather(result, _name(result), threads=threads)
    write_page(collect(sources_of_result(result, found, command, search), progress or _silent), path)
    return path


def _name(result: CompileResult) -> str:
    model = result.origin.model if result.origin is not None else None
    return str(model) if isinstance(model, str | Path) else "a model in memory"


def _silent(label: str, done: int, total: int | None) -> None:
    del label, done, total
