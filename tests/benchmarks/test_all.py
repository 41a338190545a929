"""``python -m benchmarks`` asks every question that the table has a place for."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import repository_models
from benchmarks.table import ORDER


def asked() -> set[str]:
    """Names of the JSON files that all scripts write."""
    names = {"llama_shape_memory"}
    for script in (*program.SCRIPTS, *program.OF_OUR_OWN):
        module, *words = script.split()
        if words:
            names.add(importlib.import_module(f"benchmarks.{module}").QUESTIONS[words[0]].name)
        elif module == "repository_models":
            names |= {question.name for question in repository_models.QUESTIONS}
        else:
            names.add(importlib.import_module(f"benchmarks.{module}").QUESTION.name)
    return names


def test_every_place_of_the_table_is_filled() -> None:
    assert asked() == set(ORDER)


def test_every_script_is_described() -> None:
    text = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text("utf-8")
    scripts = {script.split()[0] for script in (*program.SCRIPTS, *program.OF_OUR_OWN, program.SCRATCH)}
    assert {name for name in scripts if f"| `{name}" not in text} == set()


def test_every_script_is_given_its_words_and_the_worst_code_is_returned(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given: list[tuple[str, list[str]]] = []

    def note(script: str, options: list[str]) -> int:
        given.append((script, options))
        return 2 if script == "magika" else 0

    monkeypatch.setattr(program, "run", note)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--assets", "A", "--results", str(tmp_path)])
    assert program.main() == 2
    options = dict(given)
    assert options["low_bit tinylm"] == ["--assets", "A", "--results", str(tmp_path)]
    assert options["llama_speed"] == ["--results", str(tmp_path)]
    assert given[-1][0] == "table"


def test_words_stand_behind_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    class Done:
        returncode = 0

    def keep(command: list[str], *, check: bool) -> Done:
        commands.append(command)
        return Done()

    monkeypatch.setattr("subprocess.run", keep)
    program.run("low_bit pydoc_lm", ["--results", "R"])
    assert commands[0][1:] == ["-m", "benchmarks.low_bit", "pydoc_lm", "--results", "R"]
