"""A sequential pass as small as can be: rounds weights after looking at the mean square of what they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.requests import ChannelMeanSquare, Gram, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.journal import Arrays
from qcompiler.sequential.stages import weighted_levels


@dataclass(frozen=True)
class RoundWeights(Pass):
    """Halves the precision of weights by how much their input matters, in place.

    Attributes:
        solved: names of the nodes that were solved, in order, and what their input's statistic was.
        dies_at: raises before this node is solved.
        step: distance between rounded weights, less where the input is large.
    """

    name: ClassVar[str] = "round_weights"
    needs_data: ClassVar[bool] = True

    drift: bool = False
    in_order: bool = True
    dies_at: str = ""
    step: float = 0.25
    solved: dict[str, Arrays] = field(default_factory=dict)

    @property
    def sequential(self) -> bool:
        return self.in_order

    def stages(self, context: PassContext) -> Sequence[frozenset[str]]:
        return weighted_levels(context.model, context.scope)

    def statistics(self, context: PassContext) -> Sequence[Request]:
        return [self.request(view) for view in views(context)]

    def request(self, view: WeightedNode) -> Request:
        name = str(view.activation.name)
        return Gram(name, drift=True) if self.drift else ChannelMeanSquare(name)

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        decisions = []
        for view in views(context):
            solve = partial(self.solve, view, statistics)
            solution = context.journal.recall(f"{self.name}/{view.name}", solve)
            view.weight.const_value = ir.tensor(solution["weight"], name=view.weight.name)
            decisions.append(NodeDecision(view.name, view.node.op_type, "quantized", "rounded"))
        return PassReport(self.name, tuple(decisions))

    def solve(self, view: WeightedNode, statistics: Statistics) -> Arrays:
        if view.name == self.dies_at:
            raise KeyboardInterrupt
        request = self.request(view)
        if isinstance(request, Gram):
            gram, drift = statistics.gram(request)
            found = {"importance": np.diag(gram).copy(), "drift": np.asarray(drift)}
        else:
            found = {"importance": np.asarray(statistics.array(request))}  # type: ignore[arg-type]
        self.solved[view.name] = found
        step = self.step / (1.0 + np.sqrt(found["importance"].astype(np.float64)))[:, None]
        return {**found, "weight": (np.round(view.matrix() / step) * step).astype(np.float32)}


def views(context: PassContext) -> list[WeightedNode]:
    found = [weighted(node) for node in context.nodes()]
    return [view for view in found if view is not None and view.node.op_type == "MatMul"]
