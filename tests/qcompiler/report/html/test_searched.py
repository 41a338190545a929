"""What a search adds to a page: bounds that hold or not, and the models that it looked at."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from qcompiler.auto.facts import Bounds, Front, FrontPoint, Group, Totals
from qcompiler.auto.judge import Judged
from qcompiler.auto.outcome import SearchResult
from qcompiler.report.html.searched import searched
from qcompiler.report.notebook import search_html

FLOAT = Totals(4e6, 2.0, 0.0)
INT8 = Judged(0.9, 0.1, Totals(1e6, 1.0, 0.02))


class Published:
    path = Path("out/<b>.qc.onnx")


@pytest.fixture
def found() -> SearchResult:
    return SearchResult(
        result=cast(Any, Published()),
        recipe=Path("out/model.recipe.yaml"),
        assignment={"a": "int4", "b": "int8"},
        groups=(
            Group("a", ("a",), "Conv", 10),
            Group("b", ("b", "c"), "MatMul", 20),
            Group("d", ("d",), "Gemm", 5),
        ),
        predicted=Totals(800_000, 0.9, 0.3),
        measured=Totals(800_000, 0.95, 0.008),
        float_model=FLOAT,
        metric="top1",
        surrogate=0.28,
        value=0.912,
        float_value=0.92,
        bits=5.25,
        uniform={"int8": INT8},
        considered=("int8",),
        tried=3,
        front=None,
        notes=(),
        seconds=90.0,
    )


def test_bounds_say_whether_they_hold(found: SearchResult) -> None:
    bounds = Bounds(max_drop=0.01, max_size_bytes=700_000, max_latency_ms=5.0, max_latency_ratio=0.5)
    rows = {row.name.partition(",")[0]: row for row in searched(found, bounds).bounds}
    assert {name: row.holds for name, row in rows.items()} == {
        "size": False,
        "a run": True,  # half of 2 ms is 1 ms, the tighter of the two
        "drop of top1": True,
        "surrogate of that drop": None,
        "bits a weight": None,
    }
    assert rows["a run"].bound == "at most 1 ms"
    assert rows["size"].predicted == rows["size"].measured == "800,000 bytes"


def test_a_latency_within_the_noise_holds(found: SearchResult) -> None:
    near = replace(found, measured=replace(found.measured, latency_ms=1.019))
    rows = searched(near, Bounds(max_latency_ms=1.0)).bounds
    assert rows[1].holds
    untimed = replace(found, float_model=Totals(4e6, 0.0, 0.0))
    assert len(searched(untimed, Bounds()).bounds) == 4  # nothing about time


def test_without_a_front_the_result_stands_beside_one_choice_everywhere(found: SearchResult) -> None:
    rows = searched(found, Bounds()).front
    assert [(row.label, row.kind, row.chosen) for row in rows] == [
        ("found", "front", True),
        ("int8 everywhere", "uniform", False),
        ("float", "float", False),
    ]


def test_points_that_were_only_predicted_have_no_drop(found: SearchResult) -> None:
    points = (
        FrontPoint({"a": "int4", "b": "int4"}, Totals(5e5, 0.8, 0.7)),
        FrontPoint(found.assignment, found.predicted, found.measured, chosen=True),
    )
    rows = searched(replace(found, front=Front("top1", FLOAT, points)), Bounds()).front
    assert [(row.label, row.loss, row.measured, row.chosen) for row in rows] == [
        ("2 int4", None, False, False),
        ("1 int4, 1 int8", 0.008, True, True),
        ("float", 0.0, True, False),
    ]


def test_a_notebook_shows_the_search(found: SearchResult) -> None:
    text = search_html(found)
    for words in ("0.92 float, 0.912 compiled", "5.25, scales counted", "1 int4, 2 int8, 1 float", "1.5 min"):
        assert words in text
    assert "<b>.qc" not in text
