"""Outlier channels in float: few channels far larger than the rest get a float product of their own.

    h = f(X W1 + b1),   h W2 = h' W2' + f(X W1[:, C] + b1[C]) W2[C, :]

after the mixed-precision decomposition of LLM.int8() (arXiv:2208.07339).  X is ``[..., K]``, W1 ``[K, M]``, W2
``[M, N]`` and f an activation function with f(0) = 0.  The columns C of W1 and b1, and the rows C of W2, are zero in
h' and W2', so that one step of the codes of h' no longer has to cover the outliers; the float output stays the same.
SmoothQuant cannot serve these activations, no scale passes through f.  In BERT-like encoders one channel of 1536
reaches 25 in the first token alone, where the others stay below 6, and costs all other tokens two bits.

C is fixed from calibration: the channels above ``ratio`` times the magnitude that 99 of 100 channels stay below, at
most one channel in a hundred.  Left alone, with the reason: activations without such channels, that others read,
that no linear layer with its own weight makes through f, or whose weights are tied.  Running it again finds nothing
left above the ratio, or the next rank of outliers where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.requests import ChannelAbsMax, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.side_branch import CannotSplitError, Hidden, hidden_of, split_channels
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.pipeline.base import Action, NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option

LINEAR = ("MatMul", "Gemm")
MOST = 0.01
"""Share of the channels that may be called outliers."""


@dataclass(frozen=True)
class OutlierChannels(Pass):
    """Computes the few outlier channels between two linear layers in float; the float output does not change."""

    name: ClassVar[str] = "outlier_channels"
    by_segment: ClassVar[bool] = False
    quantizes: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True

    ratio: float = option(2.0, "how far above 99 % of the channels an outlier is", minimum=1)

    def statistics(self, context: PassContext) -> Sequence[Request]:
        found = (_hidden(view, context) for view in _linear(context))
        return [ChannelAbsMax(hidden.value_name) for hidden in found if isinstance(hidden, Hidden)]

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        decisions = []
        for view in _linear(context):
            hidden = _hidden(view, context)
            action, detail = self._split(hidden, statistics)
            decisions.append(NodeDecision(view.name, view.node.op_type, action, detail))
        return PassReport(self.name, tuple(decisions))

    def _split(self, hidden: Hidden | str, statistics: Statistics) -> tuple[Action, str]:
        if isinstance(hidden, str):
            return "skipped", hidden
        magnitude = np.asarray(statistics.array(ChannelAbsMax(hidden.value_name)), np.float64)
        channels = outliers(magnitude, self.ratio)
        if not channels.size:
            return "skipped", f"no channel is {self.ratio:g} times as large as 99 % of them"
        rest = np.delete(magnitude, channels).max(initial=0.0)
        split_channels(hidden, channels)
        detail = f"{channels.size} of {magnitude.size} channels in float, largest magnitude of the others"
        return "transformed", f"{detail} {rest:.3g} instead of {magnitude.max():.3g}"


def outliers(magnitude: npt.NDArray[np.floating[Any]], ratio: float) -> npt.NDArray[np.int64]:
    """Indices, in order, of the channels larger than ``ratio`` times what 99 % of them stay below.

    Args:
        magnitude: largest magnitude per channel, ``[C]``.
        ratio: at least 1.
    """
    allowed = int(MOST * magnitude.size)
    if not allowed:
        return np.zeros(0, np.int64)
    usual = np.sort(magnitude)[-allowed - 1]
    return np.flatnonzero(magnitude > ratio * usual).astype(np.int64)


def _linear(context: PassContext) -> list[WeightedNode]:
    views = (weighted(node) for node in context.model.graph if node.op_type in LINEAR)
    return [view for view in views if view is not None]


def _hidden(view: WeightedNode, context: PassContext) -> Hidden | str:
    if view.name not in context.selected:
        return "excluded by the user"
    try:
        return hidden_of(view)
    except CannotSplitError as error:
        return str(error)
