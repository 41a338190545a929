"""Rotations while the model runs: inputs of chosen products, times a Hadamard matrix (QuaRot, arXiv:2404.00456).

    X W = (X H)(H W),   H[i, j] = (-1)^(number of ones in i & j) / sqrt(n),   H H = 1

X is ``[.., K]``, W ``[K, N]``; H turns blocks of n = ``size`` channels, or of the largest power of two below that
divides K.  One channel that is far larger than the rest is spread over n of them, sqrt(n) times smaller, and one scale
for all rounds the others less.  H W is computed here, X H at every run: additions alone on tvm-cpu, a product by an
n x n matrix elsewhere.  The float output stays the same.  Of QuaRot this is the online part, which serves any
activation of any graph, not its rotations of the residual stream, which are free but ask for RMS norms throughout.

MiniLM's mean cosine to float: 0.9943 -> 0.9993 with int8_dynamic; 0.9976 (with smoothquant and outlier_channels) ->
0.9992 with int8_static; for a sixth of int8's speed on ort-cpu.  ``gain`` and ``size`` choose less of both.

With data, an activation is rotated only where that lowers the error of its products with both operands in the
target's 8-bit codes, on a sample of rows.  Without data every one that can be is.  All products of an activation share
a rotation.

Left alone, with the reason: nodes without a constant weight of their own, in subgraphs, of K that 16 does not divide,
and what is rotated already: running it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.calibration.requests import Request, Rows
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.consumers import Consumers, by_activation
from qcompiler.graph.hadamard import LEAST_OPSET, is_rotation, rotated
from qcompiler.graph.rewire import set_constant
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.numerics.hadamard import LEAST, block_size, rotated_rows, rotation_errors
from qcompiler.numerics.smoothing import Codes
from qcompiler.pipeline.base import Action, NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option

LINEAR = ("MatMul", "Gemm")
LARGEST = 4096


@dataclass(frozen=True)
class Hadamard(Pass):
    """Spreads outlier channels over their neighbours while the model runs; the float output does not change."""

    name: ClassVar[str] = "hadamard"
    by_segment: ClassVar[bool] = False
    quantizes: ClassVar[bool] = False

    size: int = option(64, "channels of a block, a power of two", minimum=LEAST, maximum=LARGEST)
    gain: float | None = option(
        None,
        "turn only where the error falls to this share or less, which needs data; none: where it falls",
        minimum=0,
        maximum=1,
    )
    rows: int = option(256, "rows of each activation that the error is measured on", minimum=16)

    def __post_init__(self) -> None:
        if self.size & (self.size - 1):
            raise ValueError(
                f"option 'size' must be a power of two from {LEAST} to {LARGEST}; got {self.size}."
            )

    @property
    def asks_for_data(self) -> bool:
        return self.gain is not None

    def least_opset(self, target: Target) -> int:
        del target
        return LEAST_OPSET

    def statistics(self, context: PassContext) -> Sequence[Request]:
        return [self._sample(group) for group in _groups(context)] if context.has_data else []

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        decided: dict[str, tuple[Action, str]] = {}
        for group in _groups(context):
            found = self._rotate(group, context, statistics)
            decided |= {view.name: found for view in group.consumers}
        decisions = []
        for node in context.model.graph.all_nodes():
            if node.op_type in LINEAR and not node.domain:
                action, detail = decided.get(str(node.name), ("skipped", _refusal(node, context)))
                decisions.append(NodeDecision(str(node.name), node.op_type, action, detail))
        return PassReport(self.name, tuple(decisions))

    def _rotate(self, group: Consumers, context: PassContext, statistics: Statistics) -> tuple[Action, str]:
        size, figures = block_size(group.channels, self.size), ""
        matrices = [view.matrix() for view in group.consumers]
        if context.has_data:
            rows = statistics.array(self._sample(group)).astype(np.float32)
            before, after = rotation_errors(rows, matrices, _codes(context.target), size)
            figures = f", output error {before:.2e} -> {after:.2e}"
            if after >= before or (self.gain is not None and after > self.gain * before):
                return "skipped", f"turning blocks of {size} would not help enough{figures}"
        value = rotated(context.model, group.value, size, origin=group.consumers[0].name)
        for view, matrix in zip(group.consumers, matrices, strict=True):
            view.node.replace_input_with(0, value)
            turned = rotated_rows(matrix, size)
            set_constant(*view.weight_reader, turned.T if view.output_axis == 0 else turned)
        shared = f", shared by {len(group.consumers)} nodes" if len(group.consumers) > 1 else ""
        return "transformed", f"blocks of {size} channels turned at run time{figures}{shared}"

    def _sample(self, group: Consumers) -> Rows:
        return Rows(group.name, self.rows)


def _groups(context: PassContext) -> list[Consumers]:
    """Products that share an activation and can be rotated, in graph order."""
    views = ((node, weighted(node)) for node in context.model.graph)
    return by_activation(view for node, view in views if view is not None and not _refusal(node, context))


def _refusal(node: ir.Node, context: PassContext) -> str:
    """Why a node is left alone; empty when it is not."""
    view = weighted(node)
    if node.op_type not in LINEAR or view is None:
        return "its weight is not a float constant"
    if node.name not in context.selected:
        return "excluded by the user"
    if {node.graph, view.activation.graph} != {context.model.graph}:
        return "inside a subgraph: what it reads cannot be observed"
    if view.is_tied:
        return "its weight is tied to another node's: rotating it would untie them"
    return _channel_refusal(view)


def _channel_refusal(view: WeightedNode) -> str:
    if is_rotation(view.activation.producer()):
        return "its activation is rotated already"
    channels = view.matrix_shape[0]
    return "" if channels % LEAST == 0 else f"its {channels} input channels are no multiple of {LEAST}"


def _codes(target: Target) -> Codes:
    activation = target.activation
    return Codes(activation.code_range, activation.symmetric, target.weight.largest_code)
