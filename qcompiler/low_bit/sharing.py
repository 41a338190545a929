"""Which nodes read the same codes, and reporting them where the codes are solved for one of them only.

Weights that several nodes share are quantized once, when the last of their products is reached.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph.weighted import WeightedNode
from qcompiler.low_bit.readers import Selection, tied_to
from qcompiler.pipeline.base import NodeDecision, PassContext

_STORED_WITH = "qcompiler.stored_with"
"""``ir.Node.meta``: the decision on a node whose weight was stored with another's, until it is reported."""

_ANNOUNCED = "qcompiler.announced"
"""``ir.Node.meta``: whether a node was reported before its weight was stored with another's."""


@dataclass(frozen=True)
class Sharing:
    """Who shares a weight with whom in a model as it stands."""

    selection: Selection
    context: PassContext
    places: dict[ir.Node, int]

    @classmethod
    def of(cls, selection: Selection, context: PassContext) -> Sharing:
        """Of ``context.model``, whose order of nodes decides which is last."""
        return cls(selection, context, {node: at for at, node in enumerate(context.model.graph.all_nodes())})

    def readers(self, view: WeightedNode) -> list[WeightedNode]:
        """The nodes that will read the same codes as ``view``, the one they are solved for last."""
        accepted = [other for other in tied_to(view) if not self.selection.refusal(other, self.context)]
        return sorted(accepted, key=lambda other: (other.node.op_type != "Gather", self.places[other.node]))

    def is_owner(self, view: WeightedNode) -> bool:
        """Whether codes are solved for this node."""
        if self.selection.refusal(view, self.context):
            return False
        return self.readers(view)[-1].node is view.node


def announce(node: ir.Node) -> None:
    """Remember that ``node`` was reported, though its weight is still to be stored."""
    node.meta[_ANNOUNCED] = True


def leave_decisions(others: list[WeightedNode], decide: Callable[[WeightedNode], NodeDecision]) -> None:
    """Leave a decision at every node whose weight is stored with another's and that was not reported yet."""
    for other in others:
        if not other.node.meta.pop(_ANNOUNCED, False):
            other.node.meta[_STORED_WITH] = decide(other)


def left_decision(node: ir.Node) -> NodeDecision | None:
    """What :func:`leave_decisions` left at ``node``, once."""
    found: NodeDecision | None = node.meta.pop(_STORED_WITH, None)
    return found
