"""What is shown of a search: quantities beside their bounds, what was written, what it took, what to type next."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from qcompiler.auto.facts import Bounds, Totals
from qcompiler.auto.front import Front
from qcompiler.report.json import to_json
from qcompiler.report.notebook import search_html
from qcompiler.report.search import print_search
from qcompiler.report.search_facts import SearchFacts, search_facts
from tests.qcompiler.report.samples import FLOAT, compiled, found, result


def printed(facts: SearchFacts, width: int = 80) -> str:
    stream = io.StringIO()
    print_search(facts, Console(file=stream, width=width, markup=False))
    return stream.getvalue()


def test_bounds_say_whether_they_hold() -> None:
    bounds = Bounds(max_drop=0.01, max_size_bytes=700_000, max_latency_ms=5.0, max_latency_ratio=0.5)
    rows = {row.name: row for row in found(bounds).quantities}
    assert {name: row.holds for name, row in rows.items()} == {
        "size, bytes": False,
        "a run, ms": True,  # half of 2 ms is 1 ms, the tighter of the two
        "top1": None,
        "drop of top1": True,
        "surrogate of it": None,
        "packed bits a weight": None,
    }
    assert rows["a run, ms"].bound == "at most 1"
    assert rows["size, bytes"].predicted == rows["size, bytes"].measured == "800,000"


def test_a_latency_within_the_noise_holds() -> None:
    near = replace(result(), measured=Totals(8e5, 1.019, 0.0))
    rows = search_facts(near, compiled(), Bounds(max_latency_ms=1.0)).quantities
    assert rows[1].holds
    untimed = replace(result(), float_model=Totals(4e6, 0.0, 0.0))
    names = [row.name for row in search_facts(untimed, compiled(), Bounds()).quantities]
    assert "a run, ms" not in names


def test_the_bound_that_is_taken_where_none_was_given_is_one() -> None:
    facts = search_facts(result(), compiled(), Bounds())
    (drop,) = [row for row in facts.quantities if row.name.startswith("drop")]
    assert drop.bound == "at most 0.01"
    assert drop.holds is (facts.measured.loss <= 0.01)
    assert facts.bounds.max_drop == 0.01
    others = search_facts(result(), compiled(), Bounds(max_bits=4)).quantities
    assert [row.bound for row in others if row.name.startswith("drop")] == [""]


def test_the_terminal_names_every_file_and_what_the_search_took() -> None:
    text = printed(found(front=Front("top1", FLOAT, ())))
    for words in ("out/model.recipe.yaml", "out/<b>.qc.front.json", "out/model.qc.manifest.json", "1.5 min"):
        assert words in text
    assert "of memory at most" in text
    assert "front.json" not in printed(found())


def test_the_terminal_says_what_holds_within_80_columns() -> None:
    text = printed(found(Bounds(max_drop=0.001, max_bits=6)))
    assert all(len(line) <= 80 for line in text.splitlines())
    assert "at most 0.001: NOT kept" in " ".join(text.split())
    assert "at most 6" in text
    assert "stored bits" in text


def test_commands_stay_on_one_line() -> None:
    long = "qcompile model.onnx --recipe " + "x" * 90
    facts = replace(found(), hints=(replace(found().hints[0], command=long),))
    assert f"    {long}\n" in printed(facts)


def test_a_document_has_the_same_facts() -> None:
    document = json.loads(to_json(found()))
    assert document["peak_bytes"] > 1e6
    assert document["seconds"] == 90.0
    assert document["hints"][0]["command"].startswith("qcompile model.onnx --recipe")
    assert document["quantities"][3]["holds"] is True


@pytest.mark.parametrize(("own", "shown"), [(True, 0), (False, 1)])
def test_options_that_the_search_chose_itself_need_no_warning(own: bool, shown: int) -> None:
    warned = compiled("target option packed has no effect: no product has weights whose codes fit 3 bits.")
    facts = search_facts(result(), warned, Bounds(), chose_target=own)
    assert len(facts.compiled.warnings) == shown


def test_a_notebook_shows_the_search() -> None:
    text = search_html(result())
    for words in ("0.92 float, 0.912 compiled", "5.25", "1 int4, 2 int8, 1 float", "1.5 min"):
        assert words in text
    assert "<b>.qc" not in text
