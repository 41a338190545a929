"""The command line that every question has: ``python -m benchmarks.NAME --assets FOLDER [--results FOLDER]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.results_file import RESULTS, Row, make_result, this_machine, write_result
from benchmarks.table import render
from qcompiler.errors import QCompilerError

BAD_INPUT = 2


class AbsentAssetError(Exception):
    """A file that a question needs is not there; the message says which and what to give."""


@dataclass(frozen=True)
class Place:
    """Where a question finds its assets and may write.

    Attributes:
        assets: the folder given with ``--assets``.
        scratch: a folder of its own, removed at the end.
    """

    assets: Path
    scratch: Path

    def asset(self, name: str) -> Path:
        """Return a file or folder below the assets.

        Raises:
            AbsentAssetError: it does not exist.
        """
        path = self.assets / name
        if not path.exists():
            raise AbsentAssetError(f"{path} is absent: give the folder that holds {name} with --assets.")
        return path


@dataclass(frozen=True)
class Question:
    """What a script measures.

    Attributes:
        name: of the JSON file.
        title: what the table calls it.
        data: what it is calibrated and scored on.
        measure: does it.
        module: that asks it, where it is not named as the file.
        needs_assets: whether it reads from the folder of ``--assets``.
    """

    name: str
    title: str
    data: str
    measure: Callable[[Place], Sequence[Row]]
    module: str = ""
    needs_assets: bool = True

    @property
    def command(self) -> str:
        given = " --assets ASSETS" if self.needs_assets else ""
        return f"python -m benchmarks.{self.module or self.name}{given}"


def answer(question: Question, arguments: Sequence[str] | None = None) -> int:
    """Measure, write the JSON, print the rows; return an exit code."""
    parser = argparse.ArgumentParser(prog=question.command.split(" --")[0], description=question.title)
    parser.add_argument(
        "--assets", type=Path, required=question.needs_assets, help="folder of models and data"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    given = parser.parse_args(arguments)
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix=f"benchmark-{question.name}-") as scratch:
        try:
            rows = tuple(question.measure(Place(given.assets or Path(), Path(scratch))))
        except (AbsentAssetError, QCompilerError) as error:
            print(f"{question.name}: {error}", file=sys.stderr)
            return BAD_INPUT
    result = make_result(question.title, question.data, question.command, rows, machine)
    write_result(result, given.results / f"{question.name}.json")
    print(render([result]))
    return 0
