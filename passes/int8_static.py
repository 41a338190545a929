"""Static int8: weights and activations quantized with fixed ranges, written as QuantizeLinear/DequantizeLinear.

    y = s_x s_w (q_x - z_x) q_w + b,    q = saturate(round(x / s) + z)

Integer-only inference as in arXiv:1712.05877, per-channel weights as in arXiv:1806.08342.  Activations are
quantized per tensor in the target's type (uint8 on x86), with ranges from calibration; weights symmetrically in
int8, per output channel; biases in int32 with scale ``s_x s_w``.  Relu and Clip need no node of their own: the
range is observed behind them.

With ``weights=int4`` (W4A8; int3 to int6) the file holds the weights of integer kernels in fewer bits: in groups along
the inputs of a channel, whose steps are small multiples of the channel's scale, so that they become int8 codes when the
model is loaded (QServe's progressive groups, arXiv:2405.04532).  What runs is int8, at int8's speed.
``solver=gptq`` (usual) chooses their codes by X'X of what MatMul, Gemm and Conv of one group read; others by ``mse``.

The target decides which nodes run in integers, and whether their output must be quantized too.  Where it can only
expand a weight (embeddings, ConvTranspose) the weight alone is stored in int8.  Left in float,
with the reason in the report: nodes inside subgraphs (their values cannot be observed from outside), nodes whose
weight is not constant, and everything the target has no fast integer kernel for.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import onnx_ir as ir

from qcompiler.backends.base import ActivationFormat, Support, Target
from qcompiler.calibration.requests import Calibrator, Range, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.placement import Placement, place
from qcompiler.graph.qdq import TensorQuantization, quantize_activation
from qcompiler.graph.weighted import WeightedNode, array_of, is_constant, weighted, weighted_nodes
from qcompiler.low_bit.narrow import (
    GROUP_HELP,
    SOLVER_HELP,
    WEIGHTS_HELP,
    CodeSolver,
    NarrowWeights,
    StoredWeights,
    narrow_weights,
    refuse_unfit,
)
from qcompiler.low_bit.static_weights import StaticWeights, WeightChoice
from qcompiler.numerics.affine import affine_parameters, symmetric_parameters
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option

_SERVED = "qcompiler.int8_static_served"
"""``ir.Node.meta``: whether a pass of this kind quantized a node, and reported it, for one right behind it."""

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Ops whose absence from the report a user would wonder about."""


@dataclass(frozen=True)
class Int8Static(Pass):
    """Weights and activations in 8-bit integers, ranges from calibration data."""

    name: ClassVar[str] = "int8_static"
    by_segment: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True

    calibrator: Calibrator = option(Calibrator.MSE, "how activation ranges are chosen")
    percentile: float = option(
        99.999, "share kept by calibrator=percentile, in percent", minimum=50, maximum=100
    )
    per_channel: bool = option(True, "one weight scale per output channel instead of one per tensor")
    clip_mse: bool = option(False, "choose weight scales for least squared error")
    embeddings: bool = option(True, "store embedding tables (Gather) in int8, one scale per row")
    weights: StoredWeights = option(StoredWeights.INT8, WEIGHTS_HELP)
    group: int | None = option(None, GROUP_HELP, minimum=0, maximum=256)
    solver: CodeSolver | None = option(None, SOLVER_HELP)

    def __post_init__(self) -> None:
        if self.narrow is not None and self.clip_mse:
            raise ValueError(
                f"option 'clip_mse' is for weights=int8; with weights={self.weights} say solver=mse."
            )

    @property
    def narrow(self) -> NarrowWeights | None:
        """How weights of fewer bits are chosen; None for 8."""
        chosen = self.weights, self.group, self.solver, CodeSolver.GPTQ
        return narrow_weights(*chosen, per_channel=self.per_channel)

    def weight_bits(self, target: Target) -> int:
        return min(target.weight.bits, self.weights.bits)

    def least_opset(self, target: Target) -> int:
        del target
        return 0 if self.narrow is None else self.narrow.least_opset

    def check(self, target: Target) -> None:
        refuse_unfit(self.narrow, target, self.name)

    def statistics(self, context: PassContext) -> Sequence[Request]:
        plan = self._plan(context)
        ranges = [
            self._range(value, context)
            for value in plan.values
            if value not in plan.same_scale and not is_constant(value)
        ]
        views = [view for view in map(weighted, plan.integer) if view is not None]
        asked = [(view, self._choice(view.name, context).narrow) for view in views]
        grams = [narrow.request(view, context) for view, narrow in asked if narrow is not None]
        return [*ranges, *(request for request in grams if request is not None)]

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        plan = self._plan(context)
        stored = self._stored(context)
        decisions = list(self._explained(context, plan, {view.name for view in stored}))
        scales = self._quantize_values(context, plan, statistics)
        views = [view for view in map(weighted, plan.integer) if view is not None]
        weights = StaticWeights(context, statistics, scales, partial(self._choice, context=context))
        weights.store([view for view in views if view.activation in scales])
        for view in stored:
            weights.store_alone(view)
        for value, readers in plan.values.items():
            quantize_activation(value, scales[value], readers)
        for node in (*plan.integer, *(view.node for view in stored)):
            node.meta[_SERVED] = node.name in context.partners
        return PassReport(self.name, tuple(decisions))

    def _own(self, name: str, context: PassContext) -> Int8Static:
        """The pass whose options are for a node's weight: this one, or one right behind it that is for it."""
        partner = context.partners.get(name)
        return partner if isinstance(partner, Int8Static) else self

    def _choice(self, name: str, context: PassContext) -> WeightChoice:
        own = self._own(name, context)
        return WeightChoice(own.per_channel, own.clip_mse, own.narrow)

    def _selected(self, context: PassContext) -> frozenset[str]:
        """Nodes of this pass and of those beside it: where values are quantized is decided once for all of them."""
        return context.selected | context.partners.keys()

    def _plan(self, context: PassContext) -> Placement:
        graph, target = context.model.graph, context.target
        in_main_graph, selected = set(graph), self._selected(context)
        anchors = [
            view.node
            for view in weighted_nodes(context.model)
            if view.name in selected and view.node in in_main_graph and target.support(view.node).static
        ]
        others = [node for node in graph if node.name in selected]
        return place(graph, anchors, others, target)

    def _stored(self, context: PassContext) -> list[WeightedNode]:
        """Nodes whose weight alone is stored in int8, because the target can only expand it."""
        selected = self._selected(context)
        views = [view for view in weighted_nodes(context.model) if view.name in selected]
        support = {view.name: context.target.support(view.node) for view in views}
        return [
            view
            for view in views
            if support[view.name].weight_only
            and not support[view.name].static
            and (self._own(view.name, context).embeddings or view.node.op_type != "Gather")
        ]

    def _range(self, value: ir.Value, context: PassContext) -> Range:
        symmetric = context.target.activation.symmetric
        return Range(str(value.name), self.calibrator, self.percentile, symmetric)

    def _quantize_values(
        self, context: PassContext, plan: Placement, statistics: Statistics
    ) -> dict[ir.Value, TensorQuantization]:
        scales: dict[ir.Value, TensorQuantization] = {}
        for value in plan.values:  # in graph order, so that a shared scale exists before it is shared
            if value in plan.same_scale:
                scales[value] = scales[plan.same_scale[value]]
                continue
            if is_constant(value):
                array = array_of(value)
                low, high = float(array.min()), float(array.max())
            else:
                low, high = statistics.range(self._range(value, context))
            scales[value] = tensor_quantization(low, high, context.target.activation)
        return scales

    def _explained(self, context: PassContext, plan: Placement, stored: set[str]) -> Iterator[NodeDecision]:
        """One line for every node that holds a weight or that the target could run in integers."""
        integer, activation = set(plan.integer), context.target.activation.dtype.name.lower()
        main_graph = set(context.model.graph)
        for node in context.model.graph.all_nodes():
            name, support = str(node.name), context.target.support(node)
            view = weighted(node)
            if node in integer:
                weight = "" if view is None else f" x {self._choice(name, context).words(view, context)}"
                yield NodeDecision(name, node.op_type, "quantized", f"{activation}{weight}")
            elif name in stored:
                detail = "weight stored in int8, activation in float"
                yield NodeDecision(name, node.op_type, "quantized", detail, stored_only=True)
            elif node.meta.get(_SERVED):
                continue
            elif view is not None or support.static or node.op_type in PRODUCTS:
                reason = _reason(node, support, node in main_graph, name in context.selected)
                yield NodeDecision(name, node.op_type, "skipped", reason)


def tensor_quantization(low: float, high: float, activation: ActivationFormat) -> TensorQuantization:
    """Scale and zero point of an activation in the target's format."""
    if activation.symmetric:
        scale, zero_point = symmetric_parameters(max(-low, high), activation.code_range)
    else:
        scale, zero_point = affine_parameters(low, high, activation.code_range)
    return TensorQuantization(scale, zero_point, activation.dtype)


def _reason(node: ir.Node, support: Support, in_main_graph: bool, selected: bool) -> str:
    if not selected:
        return "excluded by the user"
    if not in_main_graph:
        elsewhere = "; int8_dynamic can quantize it" if support.dynamic or support.weight_only else ""
        return f"inside a subgraph: its activations cannot be calibrated{elsewhere}"
    if not support.static:
        return support.reason or f"static int8 gains nothing for {node.op_type} on this target"
    return "its neighbours are in float: quantizing it alone would cost more than it gains"
