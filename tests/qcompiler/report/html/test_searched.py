"""What a search adds to a page: the models that it looked at, and their charts with the bounds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qcompiler.auto.facts import Bounds, Totals
from qcompiler.auto.front import Front, FrontPoint
from qcompiler.report.html.front_chart import front_by_latency, front_by_size
from qcompiler.report.html.page import FrontRow, Page
from qcompiler.report.html.render import render
from qcompiler.report.html.searched import alternative_words, front_rows, short_choices
from qcompiler.report.html.tiles import tiles
from tests.qcompiler.report.html.pages import page
from tests.qcompiler.report.samples import FLOAT, found, result


def looking_at(losses: list[float], bounds: Bounds) -> Page:
    rows = [
        FrontRow(f"{loss}", "uniform", 1e5 * (index + 1), 1.0 + index, loss, measured=True, chosen=not index)
        for index, loss in enumerate(losses)
    ]
    return replace(page(3), search=found(bounds), front=tuple(rows))


def test_without_a_front_the_result_stands_beside_one_choice_everywhere() -> None:
    assert [(row.label, row.kind, row.chosen) for row in front_rows(found())] == [
        ("found", "front", True),
        ("int8 everywhere", "uniform", False),
        ("float", "float", False),
    ]


def test_points_that_were_only_predicted_have_no_drop() -> None:
    base = result()
    points = (
        FrontPoint({"a": "int4", "b": "int4"}, Totals(5e5, 0.8, 0.7)),
        FrontPoint(base.assignment, base.predicted, base.measured, chosen=True),
    )
    rows = front_rows(found(front=Front("top1", FLOAT, points)))
    assert [(row.label, row.loss, row.measured, row.chosen) for row in rows] == [
        ("2 int4", None, False, False),
        ("1 int4, 1 int8", 0.008, True, True),
        ("float", 0.0, True, False),
    ]


def test_choices_are_named_by_what_tells_them_apart() -> None:
    names = [
        "int4:group=32:solver=gptq:sequential=false",
        "int8_static",
        "int3:solver=rtn",
        "int3:solver=gptq",
    ]
    assert list(short_choices(names).values()) == ["int4:group=32", "int8_static", *names[2:]]


def test_bounds_are_lines_of_both_charts() -> None:
    made = looking_at([0.01, 0.02], Bounds(max_drop=0.015, max_size_bytes=300_000, max_latency_ratio=0.5))
    by_size, by_time = front_by_size(made), front_by_latency(made)
    assert by_size is not None
    assert by_time is not None
    assert [(line.x0, line.y0) for line in by_size.layout.shapes] == [(300, 0), (0, 0.015)]  # kB
    assert [(line.x0, line.y0) for line in by_time.layout.shapes] == [(1.0, 0), (0, 0.015)]  # half of 2 ms


@pytest.mark.parametrize("losses", [[0.0, 0.0], [-0.004, 0.006]])
def test_a_loss_of_nothing_stands_within_the_chart(losses: list[float]) -> None:
    made = front_by_size(looking_at(losses, Bounds(max_drop=0.01)))
    assert made is not None
    low, high = made.layout.yaxis.range
    assert low < min(losses)
    assert high > 0.01


def test_losses_far_apart_are_drawn_by_their_logarithm_and_none_is_lost() -> None:
    made = front_by_size(looking_at([0.0, 0.001, 0.3], Bounds(max_drop=0.01)))
    assert made is not None
    assert made.layout.yaxis.type == "log"
    assert sorted(made.data[0].y) == [0.0005, 0.001, 0.3]
    assert "drop 0<" in f"{made.data[0].customdata[0][1]}<"  # what is shown of it is true


def test_models_that_were_not_timed_have_one_chart() -> None:
    made = looking_at([0.01], Bounds())
    untimed = replace(made, front=tuple(replace(row, latency_ms=0.0) for row in made.front))
    assert front_by_latency(untimed) is None
    assert front_by_size(untimed) is not None


def test_the_tile_of_accuracy_is_the_users_metric_and_its_bound() -> None:
    (tile,) = (tile for tile in tiles(looking_at([0.0], Bounds(max_drop=0.01))) if tile.name == "top1")
    assert tile.figure == "0.912"
    assert "0.92 in float; drop 0.008, at most 0.01: kept" in tile.text
    (tile,) = (tile for tile in tiles(looking_at([0.0], Bounds(max_drop=0.001))) if tile.name == "top1")
    assert "NOT kept" in tile.text


def test_what_other_choices_would_cost_is_said_in_words() -> None:
    assert alternative_words(found().alternatives) == {
        "d": ("int8: 3.0 kB less, 0.012 ms more, loss 0.0071 more", "int4: 4.0 kB less, loss 0.2 more"),
    }
    rows = (replace(page(1).nodes[0], alternatives=("int8: <3> kB less",)),)
    text = render(replace(page(1), nodes=rows))
    assert (
        "<details><summary>What other choices would cost</summary><ul><li>int8: &lt;3&gt; kB less</li>"
        in text
    )
    assert "What other choices would cost</summary>" not in render(page(1))
