"""Dynamic int8: weights in int8, activations quantized at run time.  Needs no data.

    per tensor: (q, s, z) = DynamicQuantizeLinear(x);            y = s s_w (q - z) q_w
    per token:  m_i = max(|x_i|), (q, s, z) = Dynamic...(x / m); y = m s s_w (q - z) q_w

Weights are symmetric, per output channel (arXiv:1806.08342).  The per-token form keeps rows of small magnitude
exact beside a row of large magnitude, where one scale for all would lose them.

With ``weights=int4`` (int3 to int6) the file holds the weights of integer kernels in fewer bits, which become int8
when the model is loaded, as in ``int8_static``; only ``solver=gptq`` needs data then.

Where the target has no integer kernel for a weighted node but can expand its weight cheaply (embeddings, small
LSTM, GRU, ConvTranspose) only the weight is stored in int8.  The input of an LSTM that runs in integers has one
scale for the whole sequence, whatever the granularity; its hidden state stays in float in the dialect.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.calibration.requests import Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.dynamic import DynamicActivations
from qcompiler.graph.qdq import KEEP_FLOAT
from qcompiler.graph.recurrent import recurrent_weights
from qcompiler.graph.storage import Coded, WeightStorage
from qcompiler.graph.weighted import (
    WeightedNode,
    layout_refusal,
    weight_refusal,
    weighted,
    weighted_nodes,
)
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
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option


class Granularity(enum.StrEnum):
    """How many activation scales a run has."""

    TENSOR = "tensor"
    TOKEN = "token"


@dataclass(frozen=True)
class Int8Dynamic(Pass):
    """Weights in 8-bit integers, activations quantized while the model runs; needs no data."""

    name: ClassVar[str] = "int8_dynamic"
    by_segment: ClassVar[bool] = False

    granularity: Granularity = option(Granularity.TENSOR, "activation scales: one per tensor or per token")
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
        chosen = self.weights, self.group, self.solver, CodeSolver.MSE
        return narrow_weights(*chosen, per_channel=self.per_channel)

    @property
    def asks_for_data(self) -> bool:
        return self.narrow is not None and self.narrow.from_inputs

    def weight_bits(self, target: Target) -> int:
        return min(target.weight.bits, self.weights.bits)

    def least_opset(self, target: Target) -> int:
        del target
        return 0 if self.narrow is None else self.narrow.least_opset

    def check(self, target: Target) -> None:
        refuse_unfit(self.narrow, target, self.name)

    def statistics(self, context: PassContext) -> Sequence[Request]:
        if self.narrow is None:
            return ()
        views = [view for view in weighted_nodes(context.model) if self._is_narrow(view, context)]
        requests = [self.narrow.request(view, context) for view in views]
        return [request for request in requests if request is not None]

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        storage = WeightStorage(context.target.weight.largest_code, self.clip_mse, half_scales=True)
        activations = DynamicActivations(per_token=self.granularity is Granularity.TOKEN)
        inputs = DynamicActivations(per_token=False) if activations.per_token else activations
        decisions = []
        for node in list(context.model.graph.all_nodes()):
            view = weighted(node)
            if view is not None:
                coder = None
                if self.narrow is not None and self._is_narrow(view, context):
                    coder = partial(self.narrow.coded, view, context, statistics)
                decisions.append(self._quantize(view, context, storage, activations, coder))
            elif recurrent_weights(node):
                decisions.append(self._quantize_recurrent(node, context, storage, inputs))
            elif reason := weight_refusal(node) or layout_refusal(node):
                decisions.append(NodeDecision(str(node.name), node.op_type, "skipped", reason))
        return PassReport(self.name, tuple(decisions))

    def _quantize(
        self,
        view: WeightedNode,
        context: PassContext,
        storage: WeightStorage,
        activations: DynamicActivations,
        coder: Callable[[], Coded] | None,
    ) -> NodeDecision:
        support = context.target.support(view.node)
        reason = self._refusal(view, context)
        if reason:
            return NodeDecision(view.name, view.node.op_type, "skipped", reason)
        axis = view.output_axis if self.per_channel else None
        if support.dynamic:
            weight = f"int{context.target.weight.bits} weight"
            if self.narrow is not None:
                weight = self.narrow.words(view, context)
            storage.store(view, axis, coder=coder)
            view.node.replace_input_with(0, activations.dequantized(view.activation))
            detail = f"uint8 per {self.granularity} at run time x {weight}"
        else:
            storage.store(view, 0 if view.node.op_type == "Gather" else axis)
            detail = "weight stored in int8, activation in float"
        return NodeDecision(
            view.name, view.node.op_type, "quantized", detail, stored_only=not support.dynamic
        )

    def _is_narrow(self, view: WeightedNode, context: PassContext) -> bool:
        """Whether the file holds a weight in fewer bits than its kernel reads."""
        runs = context.target.support(view.node).dynamic and not self._refusal(view, context)
        return runs and self.narrow is not None and not self.narrow.refusal(view)

    def _refusal(self, view: WeightedNode, context: PassContext) -> str:
        support = context.target.support(view.node)
        if KEEP_FLOAT in view.node.metadata_props:
            return view.node.metadata_props[KEEP_FLOAT]
        if view.name not in context.selected:
            return "excluded by the user"
        if view.node.op_type == "Gather" and not self.embeddings:
            return "embeddings=false"
        if not support.dynamic and not support.weight_only:
            return support.reason or f"dynamic int8 gains nothing for {view.node.op_type} on this target"
        return ""

    def _quantize_recurrent(
        self, node: ir.Node, context: PassContext, storage: WeightStorage, activations: DynamicActivations
    ) -> NodeDecision:
        name = str(node.name)
        if name not in context.selected:
            return NodeDecision(name, node.op_type, "skipped", "excluded by the user")
        for index, weight in recurrent_weights(node):
            dequantized, _ = storage.dequantized(weight, 1 if self.per_channel else None)
            node.replace_input_with(index, dequantized)
        rows = "one scale per gate row" if self.per_channel else "one scale each"
        source = node.inputs[0]
        stored_only = source is None or not context.target.support(node).dynamic
        if source is None or stored_only:
            detail = f"weights stored in int8, {rows}; activations in float"
        else:
            node.replace_input_with(0, activations.dequantized(source))
            detail = f"uint8 per tensor at run time x int{context.target.weight.bits} weights, {rows}"
        return NodeDecision(name, node.op_type, "quantized", detail, stored_only=stored_only)
