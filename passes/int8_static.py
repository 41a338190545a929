"""Static int8: weights and activations quantized with fixed ranges, written as QuantizeLinear/DequantizeLinear.

    y = s_x s_w (q_x - z_x) q_w + b,    q = saturate(round(x / s) + z)

Integer-only inference as in arXiv:1712.05877, per-channel weights as in arXiv:1806.08342.  Activations are
quantized per tensor in the target's type (uint8 on x86), with ranges from calibration; weights symmetrically in
int8, per output channel; biases in int32 with scale ``s_x s_w``.  Relu and Clip need no node of their own: the
range is observed behind them.

With ``weights=int4`` (W4A8; int3 to int6) the file holds the weights of integer kernels in fewer bits: in groups along
the inputs of a channel, whose steps are small multiples of the channel's scale, so that they become int8 codes when the
model is loaded (QServe's progressive groups, arXiv:2405.04532).  What runs is int8, at int8's speed.
``solver=gptq`` (usual) chooses their codes by X'X of what MatMul, Gemm and 1x1 Conv read; others are fitted by ``mse``.

The target decides which nodes run in integers, and whether their output must be quantized too.  Where it can only
expand a weight (embeddings, ConvTranspose) the weight alone is stored in int8.  Left in float,
with the reason in the report: nodes inside subgraphs (their values cannot be observed from outside), nodes whose
weight is not constant, and everything the target has no fast integer kernel for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.base import ActivationFormat, Support, Target
from qcompiler.calibration.requests import Calibrator, Range, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.placement import Placement, place
from qcompiler.graph.qdq import TensorQuantization, dequantized_bias, quantize_activation
from qcompiler.graph.storage import Coded, WeightStorage
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
from qcompiler.numerics.affine import affine_parameters, symmetric_parameters
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option

INT32_LIMIT = 2**31 - 1
BIAS_LIMIT = 2**30
"""Half of the accumulator's range is left to the products."""

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
        plan, narrow = self._plan(context), self.narrow
        ranges = [
            self._range(value, context)
            for value in plan.values
            if value not in plan.same_scale and not is_constant(value)
        ]
        views = [view for view in map(weighted, plan.integer) if view is not None]
        grams = [] if narrow is None else [narrow.request(view, context) for view in views]
        return [*ranges, *(request for request in grams if request is not None)]

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        plan = self._plan(context)
        stored = self._stored(context)
        decisions = list(_explain(context, plan, {view.name for view in stored}, self.narrow))
        scales = self._quantize_values(context, plan, statistics)
        storage = WeightStorage(context.target.weight.largest_code, self.clip_mse)
        views = [
            view for view in map(weighted, plan.integer) if view is not None and view.activation in scales
        ]
        least = self._least_scales(views, scales)
        coders = {view.name: self._coder(view, context, statistics, least) for view in views}
        for view in views:
            coder = coders[view.name]
            self._quantize_weight(view, scales[view.activation], storage, least.get(self._key(view)), coder)
        for view in stored:
            is_table = view.node.op_type == "Gather"
            storage.store(view, view.output_axis if is_table or self.per_channel else None)
        for value, readers in plan.values.items():
            quantize_activation(value, scales[value], readers)
        return PassReport(self.name, tuple(decisions))

    def _plan(self, context: PassContext) -> Placement:
        graph, target = context.model.graph, context.target
        in_main_graph = set(graph)
        anchors = [
            view.node
            for view in weighted_nodes(context.model)
            if view.name in context.selected
            and view.node in in_main_graph
            and target.support(view.node).static
        ]
        others = [node for node in graph if node.name in context.selected]
        return place(graph, anchors, others, target)

    def _stored(self, context: PassContext) -> list[WeightedNode]:
        """Nodes whose weight alone is stored in int8, because the target can only expand it."""
        views = [view for view in weighted_nodes(context.model) if view.name in context.selected]
        support = {view.name: context.target.support(view.node) for view in views}
        return [
            view
            for view in views
            if support[view.name].weight_only
            and not support[view.name].static
            and (self.embeddings or view.node.op_type != "Gather")
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

    def _coder(
        self,
        view: WeightedNode,
        context: PassContext,
        statistics: Statistics,
        least: Mapping[tuple[int, int | None], npt.NDArray[np.float32]],
    ) -> Callable[[], Coded] | None:
        narrow = self.narrow
        if narrow is None or narrow.refusal(view):
            return None
        return partial(narrow.coded, view, context, statistics, least.get(self._key(view)))

    def _axis(self, view: WeightedNode) -> int | None:
        return view.output_axis if self.per_channel and not _mixes_channels(view) else None

    def _key(self, view: WeightedNode) -> tuple[int, int | None]:
        return id(view.weight), self._axis(view)

    def _least_scales(
        self, views: Sequence[WeightedNode], scales: Mapping[ir.Value, TensorQuantization]
    ) -> dict[tuple[int, int | None], npt.NDArray[np.float32]]:
        """Smallest scale of every weight at which the biases of all nodes that share it fit the accumulator."""
        least: dict[tuple[int, int | None], npt.NDArray[np.float32]] = {}
        for view in views:
            if view.bias is not None:
                bias = array_of(view.bias).astype(np.float32)
                own = least_weight_scale(bias, scales[view.activation].scale, self._axis(view))
                least[self._key(view)] = np.maximum(own, least.get(self._key(view), own))
        return least

    def _quantize_weight(
        self,
        view: WeightedNode,
        activation: TensorQuantization,
        storage: WeightStorage,
        least_scale: npt.NDArray[np.float32] | None,
        coder: Callable[[], Coded] | None,
    ) -> None:
        scale = storage.store(view, self._axis(view), least_scale=least_scale, coder=coder)
        if view.bias is None:
            return
        bias_scale = (scale * activation.scale).astype(np.float32)
        codes = bias_codes(array_of(view.bias).astype(np.float32), bias_scale)
        view.node.replace_input_with(2, dequantized_bias(view.bias, codes, bias_scale))


def _mixes_channels(view: WeightedNode) -> bool:
    """Whether an index of the weight's output axis stands for one channel of every group: they share a scale."""
    return view.node.op_type == "ConvTranspose" and view.group > 1


def tensor_quantization(low: float, high: float, activation: ActivationFormat) -> TensorQuantization:
    """Scale and zero point of an activation in the target's format."""
    if activation.symmetric:
        scale, zero_point = symmetric_parameters(max(-low, high), activation.code_range)
    else:
        scale, zero_point = affine_parameters(low, high, activation.code_range)
    return TensorQuantization(scale, zero_point, activation.dtype)


def least_weight_scale(
    bias: npt.NDArray[np.float32], activation_scale: np.float32, axis: int | None
) -> npt.NDArray[np.float32]:
    """Smallest weight scale, ``[N]`` or 0-D, at which the bias still fits the accumulator.

    A channel whose weights are all but zero has a scale so small that its bias would need more than 32 bits; with
    the larger scale its weights round to zero, which they are in effect.
    """
    magnitude = np.abs(bias) if axis is not None else np.abs(bias).max(initial=0.0)
    return np.asarray(magnitude / (float(activation_scale) * BIAS_LIMIT), np.float32)


def bias_codes(bias: npt.NDArray[np.float32], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.int32]:
    """int32 codes of a bias ``[N]`` for the accumulator's scale, ``[N]`` or 0-D."""
    codes = np.rint(bias.astype(np.float64) / scale)
    return np.clip(codes, -INT32_LIMIT, INT32_LIMIT).astype(np.int32)


def _explain(
    context: PassContext, plan: Placement, stored: set[str], narrow: NarrowWeights | None
) -> Iterator[NodeDecision]:
    """One line for every node that holds a weight or that the target could run in integers."""
    integer, activation = set(plan.integer), context.target.activation.dtype.name.lower()
    main_graph = set(context.model.graph)
    for node in context.model.graph.all_nodes():
        name, support = str(node.name), context.target.support(node)
        view = weighted(node)
        if node in integer:
            weight = f"int{context.target.weight.bits} weight"
            if view is not None and narrow is not None:
                weight = narrow.words(view, context)
            detail = activation if view is None else f"{activation} x {weight}"
            yield NodeDecision(name, node.op_type, "quantized", detail)
        elif name in stored:
            detail = "weight stored in int8, activation in float"
            yield NodeDecision(name, node.op_type, "quantized", detail, stored_only=True)
        elif view is not None or support.static or node.op_type in PRODUCTS:
            reason = _reason(node, support, node in main_graph, name in context.selected)
            yield NodeDecision(name, node.op_type, "skipped", reason)


def _reason(node: ir.Node, support: Support, in_main_graph: bool, selected: bool) -> str:
    if not selected:
        return "excluded by the user"
    if not in_main_graph:
        elsewhere = "; int8_dynamic can quantize it" if support.dynamic or support.weight_only else ""
        return f"inside a subgraph: its activations cannot be calibrated{elsewhere}"
    if not support.static:
        return support.reason or f"static int8 gains nothing for {node.op_type} on this target"
    return "its neighbours are in float: quantizing it alone would cost more than it gains"
