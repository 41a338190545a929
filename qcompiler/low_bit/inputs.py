"""What a solver is told of a weight's inputs: which statistics it asks for, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.calibration.requests import ChannelMeanSquare, Gram, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.weighted import WeightedNode
from qcompiler.low_bit.readers import can_be_observed
from qcompiler.low_bit.solver import Inputs, Solver
from qcompiler.pipeline.base import PassContext


@dataclass(frozen=True)
class Observation:
    """What is looked at.

    Attributes:
        solver: gptq and gptaq need a Gram matrix, searches can use mean squares.
        importance: whether searches do; None: k_quant where there is data.
    """

    solver: Solver
    importance: bool | None

    def request(self, view: WeightedNode, context: PassContext) -> Request | None:
        """The statistic of what a node's weight multiplies; None where there is none to be had or wanted."""
        if not can_be_observed(view, context.model):
            return None
        name = str(view.activation.name)
        if self.solver.from_inputs:
            return Gram(name, drift=self.solver is Solver.GPTAQ)
        return ChannelMeanSquare(name) if self._weighs(context) else None

    def inputs(self, view: WeightedNode, context: PassContext, statistics: Statistics) -> Inputs:
        """The answer to :meth:`request`, in float32."""
        request = self.request(view, context)
        if isinstance(request, Gram):
            gram, drift = statistics.gram(request)
            return Inputs(None, gram.astype("f4", copy=False), None if drift is None else drift.astype("f4"))
        if isinstance(request, ChannelMeanSquare):
            return Inputs(statistics.array(request).astype("f4", copy=False))
        return Inputs()

    def _weighs(self, context: PassContext) -> bool:
        automatic = self.importance is None and self.solver is Solver.K_QUANT and context.has_data
        return bool(self.importance) or automatic
