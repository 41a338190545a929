"""Bias correction (arXiv:1906.04721, section 4.2): take back the mean that rounded weights add to an output.

    b <- b - (W_q - W) E[x]

Runs behind a pass that quantizes weights.  E[x] ``[C]`` is the mean of what each Conv, Gemm or MatMul reads,
measured on the quantized model as it stands; W is the float weight that the quantizing pass kept beside its codes
(scaled as smoothquant or cross_layer_equalization left it).  A Conv sums over its kernel as if every position saw
the mean: at padded borders, where some see zeros, this is an approximation.

The bias is corrected where it is: a constant, the codes of an int32 bias (rounded with their scale), or the constant
of the Add behind a MatMul.  Conv and Gemm without a bias get one.  Left alone, with the reason in the report: MatMul
without such an Add, ConvTranspose (each output sees another part of the kernel), weights stored without their float
original, and nodes corrected before, which is why running it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.requests import ChannelMean, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.bias import add_to_bias, bias_refusal
from qcompiler.graph.quantized import PRODUCTS, QuantizedNode, quantized_product
from qcompiler.numerics.bias import mean_shift
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport

CORRECTED = "qcompiler.bias_corrected"
"""``ir.Node.meta`` key of nodes whose bias was corrected: what was added to each output channel, float64 ``[N]``."""


@dataclass(frozen=True)
class BiasCorrection(Pass):
    """Corrects biases for the mean error of rounded weights; runs after a quantizing pass."""

    name: ClassVar[str] = "bias_correction"
    by_segment: ClassVar[bool] = False
    quantizes: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True

    def statistics(self, context: PassContext) -> Sequence[Request]:
        views = (quantized_product(node) for node in context.model.graph)
        return [_mean_of(view) for view in views if view is not None and not _refusal(view, context)]

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        decisions = []
        for node in list(context.model.graph.all_nodes()):
            view = quantized_product(node)
            if view is not None:
                decisions.append(_correct(view, context, statistics))
            elif node.op_type in (*PRODUCTS, "ConvTranspose"):
                reason = "its weight is not quantized, or not of a kind that has one mean per output channel"
                decisions.append(NodeDecision(str(node.name), node.op_type, "skipped", reason))
        return PassReport(self.name, tuple(decisions))


def _mean_of(view: QuantizedNode) -> ChannelMean:
    if view.activation is None:
        raise AssertionError(f"{view.node.name} reads nothing")
    return ChannelMean(str(view.activation.name), view.activation_axis)


def _correct(view: QuantizedNode, context: PassContext, statistics: Statistics) -> NodeDecision:
    name, op = str(view.node.name), view.node.op_type
    reason = _refusal(view, context)
    error = None if reason else view.error()
    if error is None:
        return NodeDecision(name, op, "skipped", reason)
    shift = mean_shift(error, statistics.array(_mean_of(view)), view.group)
    where = add_to_bias(view, -shift)
    view.node.meta[CORRECTED] = -shift
    return NodeDecision(name, op, "transformed", f"{where} moved by up to {_largest(shift):.3g}")


def _largest(shift: npt.NDArray[np.float64]) -> float:
    return float(np.abs(shift).max(initial=0.0))


def _refusal(view: QuantizedNode, context: PassContext) -> str:
    node = view.node
    if node.name not in context.selected:
        return "excluded by the user"
    if CORRECTED in node.meta:
        return "corrected before"
    if node.graph is not context.model.graph:
        return "inside a subgraph: what it reads cannot be observed"
    if view.activation is None or (view.activation.shape is None and view.activation_axis != -1):
        return "the rank of what it reads is unknown"
    if not view.has_float_weight:
        return "the float weight behind its codes is not known"
    return bias_refusal(view)
