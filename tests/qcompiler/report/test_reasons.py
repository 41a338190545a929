"""A pass that a search chose for other nodes says nothing of a node: then the search does."""

from __future__ import annotations

from qcompiler.pipeline.selected import UNSELECTED
from qcompiler.report.reasons import NO_WEIGHT, reason_for


def test_the_search_speaks_where_no_pass_was_for_a_node() -> None:
    reasons = {"a": "no choice is for it: it is inside a subgraph"}
    assert reason_for(UNSELECTED, "a", reasons) == reasons["a"]
    assert reason_for(UNSELECTED, "b", reasons) == NO_WEIGHT
    assert reason_for("its weight is empty", "a", reasons) == "its weight is empty"


def test_without_a_search_a_pass_speaks_for_itself() -> None:
    assert reason_for(UNSELECTED, "a", None) == UNSELECTED
