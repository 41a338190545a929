"""SmoothQuant (arXiv:2211.10438): move the difficulty of outlier channels from activations into weights.

    s_j = max|X_j|^alpha / max|W_j|^(1 - alpha),    X W = (X / s)(s W)

X is ``[..., K]``, W ``[K, N]``, s ``[K]``, one for all consumers of a shared activation, from the largest
weight of any of them.  ``1/s`` goes into what makes X (see :mod:`qcompiler.graph.fold`), s into the rows of
W: the float output stays the same.  Where X has other readers too (the residual branch of a post-norm
transformer) a Mul by 1/s behind it takes half the time and bytes of a second norm (15 us against 30 for
``[128, 384]``).  alpha is given, or searched: the one with the smallest error of ``Q(X / s) Q(s W)`` on a
sample of rows, "no smoothing" included, so that the sampled error never grows.

Left alone, with the reason in the report: activations that nothing can absorb a scale for (Gelu, Silu, an input;
``insert_mul=true`` multiplies there at run time), tied weights, nodes in subgraphs, channels all of scale one.
Activations are served last first: folding into a linear layer changes its weight, and its own scale is chosen
afterwards.  So running it again with the same alpha changes nothing, the new scales come out as one.

``insert_mul`` behind Gelu overfits, whatever the error on the sample says: most hidden channels are silent in most
texts, and unseen text exceeds the maxima of 256 sentences up to 40 times (MiniLM: cosine 0.981 instead of 0.996).
Few large channels there are for :mod:`qcompiler.passes.outlier_channels`.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.calibration.requests import ChannelRange, Request, Rows
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.channels import input_magnitude, with_inputs_scaled
from qcompiler.graph.consumers import Consumers, by_activation
from qcompiler.graph.fold import Fold, apply_fold, plan_fold
from qcompiler.graph.fold_rules import CannotFoldError
from qcompiler.graph.rewire import insert_mul, set_constant
from qcompiler.graph.weighted import weighted
from qcompiler.numerics.smoothing import Codes, search_alpha, smoothing_scale
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option

LINEAR = ("MatMul", "Gemm")
NEARLY_ONE = 1e-3
"""Scales that all lie this close to one are not worth a change."""

HALF_RANGE = float(np.finfo(np.float16).tiny), float(np.finfo(np.float16).max)
"""A Mul's 1/s is what float16 holds exactly, so that a target can store it in half the bytes; s is its inverse."""

Array = npt.NDArray[np.floating[Any]]


class SharedNorm(enum.StrEnum):
    """How the linear consumers of a norm get its output divided by s where others need it as it is."""

    MULTIPLY = "multiply"
    DUPLICATE = "duplicate"
    LEAVE = "leave"


@dataclass(frozen=True)
class SmoothQuant(Pass):
    """Balances outlier channels between activations and weights; the float output does not change."""

    name: ClassVar[str] = "smoothquant"
    by_segment: ClassVar[bool] = False
    quantizes: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True

    alpha: float | None = option(
        None,
        "share of the difficulty moved into weights; none: searched per activation by output error",
        minimum=0,
        maximum=1,
    )
    shared_norm: SharedNorm = option(
        SharedNorm.MULTIPLY,
        "where others read a norm's output too: multiply it by 1/s, duplicate the norm, or leave it alone",
    )
    insert_mul: bool = option(
        False,
        "where nothing absorbs the scale, multiply at run time; behind Gelu or Relu prefer outlier_channels",
    )
    rows: int = option(256, "rows of each activation that the search of alpha looks at", minimum=16)

    def statistics(self, context: PassContext) -> Sequence[Request]:
        requests: list[Request] = []
        for group in _groups(context):
            if isinstance(self._plan(group, np.ones(group.channels)), str):
                continue
            requests.append(_range_request(group))
            if self.alpha is None:
                requests.append(Rows(group.name, self.rows))
        return requests

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        decisions: dict[str, NodeDecision] = {}
        for group in reversed(_groups(context)):
            action, detail = self._smooth(group, statistics, context.target)
            for view in group.consumers:
                decisions[view.name] = NodeDecision(view.name, view.node.op_type, action, detail)
        nodes = [node for node in context.model.graph.all_nodes() if node.op_type in LINEAR]
        return PassReport(
            self.name,
            tuple(
                decisions.get(str(node.name))
                or NodeDecision(str(node.name), node.op_type, "skipped", _refusal(node, context))
                for node in nodes
            ),
        )

    def _smooth(self, group: Consumers, statistics: Statistics, target: Target) -> tuple[Any, str]:
        blocked = self._plan(group, np.ones(group.channels))
        if isinstance(blocked, str):
            return "skipped", blocked
        low, high = (np.asarray(end, np.float64) for end in statistics.channel_range(_range_request(group)))
        alpha, figures = self.alpha, ""
        if alpha is None:
            rows = statistics.array(Rows(group.name, self.rows)).astype(np.float32)
            matrices = [view.matrix() for view in group.consumers]
            alpha, before, after = search_alpha(rows, low, high, matrices, _codes(target))
            if alpha is None:
                return "skipped", f"no alpha lowers the output error of {before:.2e} on the sample"
            figures = f", output error {before:.2e} -> {after:.2e}"
        scale = smoothing_scale(np.maximum(-low, high), _weight_magnitude(group), alpha)
        if np.all(np.abs(scale - 1.0) < NEARLY_ONE):
            return "skipped", "all scales are one: it is smooth already"
        where = self._apply(group, scale)
        shared = f", shared by {len(group.consumers)} nodes" if len(group.consumers) > 1 else ""
        return "transformed", f"alpha {alpha:g}{figures}, 1/s {where}{shared}"

    def _plan(self, group: Consumers, factor: Array) -> Fold | str | None:
        """How 1/s is absorbed; None to multiply at run time; the reason where neither is possible."""
        duplicating = self.shared_norm is not SharedNorm.LEAVE
        try:
            fold = plan_fold(group.value, factor, group.readers, copies=duplicating)
            return None if fold.copies() and self.shared_norm is SharedNorm.MULTIPLY else fold
        except CannotFoldError as error:
            return None if self.insert_mul else f"nothing absorbs its scale ({error}); see insert_mul"

    def _apply(self, group: Consumers, scale: Array) -> str:
        fold = self._plan(group, 1.0 / scale)
        if isinstance(fold, str):
            raise AssertionError(f"{group.name} could be scaled a moment ago: {fold}")
        where = "by a Mul at run time" if fold is None else fold.describe()
        if fold is None:
            factor = np.clip(1.0 / scale, *HALF_RANGE).astype(np.float16).astype(np.float64)
            scaled, scale = insert_mul(group.value, factor), 1.0 / factor
        else:
            scaled = apply_fold(fold)
        for view in group.consumers:
            view.node.replace_input_with(0, scaled)
            weight = with_inputs_scaled(view, view.array().astype(np.float64), scale)
            set_constant(*view.weight_reader, weight)
        return where


def _range_request(group: Consumers) -> ChannelRange:
    return ChannelRange(group.name, -1)


def _weight_magnitude(group: Consumers) -> Array:
    return np.asarray(np.max([input_magnitude(view, view.array()) for view in group.consumers], axis=0))


def _groups(context: PassContext) -> list[Consumers]:
    """Groups of consumers that can be smoothed, in graph order."""
    views = ((node, weighted(node)) for node in context.model.graph)
    return by_activation(view for node, view in views if view is not None and not _refusal(node, context))


def _refusal(node: ir.Node, context: PassContext) -> str:
    """Why a MatMul or Gemm cannot be looked at; empty when it can."""
    view = weighted(node)
    if node.op_type not in LINEAR:
        return "not a linear layer"
    if view is None:
        return "its weight is not a float constant"
    if node.name not in context.selected:
        return "excluded by the user"
    if {node.graph, view.activation.graph} != {context.model.graph}:
        return "inside a subgraph: what it reads cannot be observed"
    if view.is_tied:
        return "its weight is tied to another node's: scaling it would untie them"
    return ""


def _codes(target: Target) -> Codes:
    activation = target.activation
    return Codes(activation.code_range, activation.symmetric, target.weight.largest_code)
