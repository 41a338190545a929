"""The README's table comes from the committed results."""

from __future__ import annotations

from benchmarks.results_file import RESULTS
from benchmarks.table import END, README, START, named_results, put_into, read_results, render, updated


def test_the_readme_and_the_table_are_what_the_results_say() -> None:
    results = read_results(RESULTS)
    assert (RESULTS / "table.md").read_text("utf-8") == render(results)
    text = README.read_text("utf-8")
    assert updated(text, named_results(RESULTS)) == text


def test_what_stands_around_the_markers_stays() -> None:
    text = f"before {START} old {END} after"
    assert put_into(text, "new") == f"before {START}\n\nnew\n\n{END} after"
