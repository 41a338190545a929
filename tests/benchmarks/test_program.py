"""A question reports what is absent in one line, and writes what it measured so that the table can read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.mobilenet import QUESTION as MOBILENET
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores, read_result
from benchmarks.table import read_results, render, score


def rows(place: Place) -> Sequence[Row]:
    own = Scores(own={"top-1 %": 82.33})
    close = Scores(own={"top-1 %": 81.0}, against_float={"SQNR dB": 25.8})
    return [
        Row(name="float", scores=own, size_bytes=4_000_000),
        Row(name="int8", scores=close, size_bytes=1_000_000, seconds=2.5, peak_bytes=300_000_000),
        Row(name="peer", failure="it gave | up"),
    ]


QUESTION = Question(name="small", title="A model", data="some data", measure=rows, needs_assets=False)


def test_absent_asset_is_one_line_and_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(MOBILENET, ["--assets", str(tmp_path), "--results", str(tmp_path)]) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    assert "absent" in message
    assert "--assets" in message
    assert not list(tmp_path.iterdir())


def test_result_survives_the_file_and_becomes_a_table(tmp_path: Path) -> None:
    assert answer(QUESTION, ["--results", str(tmp_path)]) == 0
    result = read_result(tmp_path / "small.json")
    assert list(result.rows) == list(rows(Place(tmp_path, tmp_path)))
    lines = render(read_results(tmp_path)).splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(result.rows)
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert result.command in table[2]
    assert "top-1 81 %" in table[3]
    assert "SQNR 25.8 dB" in table[3]
    assert "failed: it gave" in table[4]


def test_known_results_come_in_their_order(tmp_path: Path) -> None:
    for name in ("another", "magika", "minilm"):
        answer(dataclasses.replace(QUESTION, name=name, title=name), ["--results", str(tmp_path)])
    assert [result.title for result in read_results(tmp_path)] == ["minilm", "magika", "another"]


@pytest.mark.parametrize(
    ("label", "value", "shown"),
    [
        ("top-1 %", 84.0, "top-1 84 %"),
        ("SQNR dB", 25.8, "SQNR 25.8 dB"),
        ("largest difference", 0.0149, "largest difference 0.0149"),
        ("cosine", 0.99641, "cosine 0.9964"),
    ],
)
def test_unit_stands_behind_the_figure(label: str, value: float, shown: str) -> None:
    assert score(label, value) == shown
