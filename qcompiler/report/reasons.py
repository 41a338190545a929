"""Why nodes are in float: what a pass says of one, or, of a pass that a search chose for others, the search itself."""

from __future__ import annotations

from collections.abc import Mapping

from qcompiler.pipeline.selected import UNSELECTED

NO_WEIGHT = "it holds no weight; a search decides about nodes that do"

Reasons = Mapping[str, str]
"""By node, of a search."""


def reason_for(detail: str, node: str, reasons: Reasons | None) -> str:
    """The reason for one node.

    Args:
        detail: what a pass says that left it.
        node: its name.
        reasons: None where there was no search.
    """
    return detail if reasons is None or detail != UNSELECTED else reasons.get(node, NO_WEIGHT)
