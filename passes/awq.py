"""AWQ (arXiv:2306.00978): scale up the input channels that matter, so that rounding the weights costs the output less.

    X W = (X / s)(s W),   s = m^r or m^r / w^(1 - r),   s [K], X [..., K], W [K, N]

m is the root mean square of X per channel, w the mean magnitude of the weights' rows; r and the form of s are those
with the smallest output error ``||X (W - Q(s W) / s)||^2``, computed from the Gram matrix X'X for all consumers of X
together (:mod:`qcompiler.numerics.awq`).  ``1/s`` goes into what makes X (:mod:`qcompiler.graph.fold`), so that the
float output stays the same.  Then weights are clipped where that lowers the output error further.

Where gptq or gptaq comes next, errors are corrected by later rows, and what rounding row k costs is D[k] of
``X'X = A' D A`` (:mod:`qcompiler.numerics.gptq`): scales are then searched with D in the place of X'X.

Q is the format and search of the pass that comes next (int4 in groups of 32 where none does).  Where that pass
searches its scales itself (mse, hqq, k_quant) or corrects errors (gptq, gptaq) it clips by its own measure, and
clipping before would only hide the weights from it: ``clip`` is then off unless asked for.

Left alone, with the reason in the report: activations that nothing can absorb a scale for, tied weights, nodes in
subgraphs, activations that no ratio improves.  Running it again is no idempotence: what is scaled is measured
anew, and a ratio that still helps is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.calibration.requests import Gram, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.errors import OptionError
from qcompiler.graph.channels import with_inputs_scaled
from qcompiler.graph.consumers import Consumers, by_activation
from qcompiler.graph.fold import Fold, apply_fold, plan_fold
from qcompiler.graph.fold_attention import tied_channels
from qcompiler.graph.fold_rules import CannotFoldError
from qcompiler.graph.rewire import set_constant
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.numerics.awq import search_clip, search_scales
from qcompiler.numerics.formats.affine import Affine
from qcompiler.numerics.formats.base import Float32, Format, Search
from qcompiler.numerics.gptq import remaining
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.base import Action, NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.journal import Arrays
from qcompiler.pipeline.options import option

LINEAR = ("MatMul", "Gemm")


@dataclass(frozen=True)
class Awq(Pass):
    """Scales channels, and clips weights, for the low-bit format that comes next; the float output stays the same."""

    name: ClassVar[str] = "awq"
    quantizes: ClassVar[bool] = False
    needs_data: ClassVar[bool] = True
    completed_by: ClassVar[str] = "int4"

    steps: int = option(20, "ratios tried between 0 and 1", minimum=1, maximum=100)
    clip: bool | None = option(
        None, "clip weights by output error; none: where the next pass rounds to nearest only"
    )
    copies: bool = option(False, "duplicate a norm whose output others read too, instead of leaving it")
    sequential: bool = option(True, "segment by segment, with what the quantized part before gives")

    def check_following(self, quantizing: Sequence[Pass]) -> None:
        if quantizing and not any(isinstance(item, WeightOnly) for item in quantizing):
            other = quantizing[0].name
            raise OptionError(
                f"awq prepares weights for a pass that stores them in few bits, and {other} is none; write "
                f"awq,int4, or smoothquant,{other}."
            )

    def stages(self, context: PassContext) -> Sequence[frozenset[str]]:
        from qcompiler.sequential.stages import weighted_levels

        return weighted_levels(context.model, context.scope)

    def statistics(self, context: PassContext) -> Sequence[Request]:
        groups = (group for group in _groups(context) if self._clips(context) or not self._obstacle(group))
        return [Gram(group.name) for group in groups]

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        decisions: dict[str, NodeDecision] = {}
        for group in reversed(_groups(context)):
            action, detail = self._serve(group, context, statistics)
            for view in group.consumers:
                decisions[view.name] = NodeDecision(view.name, view.node.op_type, action, detail)
        nodes = [node for node in context.nodes() if node.op_type in LINEAR]
        return PassReport(
            self.name,
            tuple(
                decisions.get(str(node.name))
                or NodeDecision(str(node.name), node.op_type, "skipped", _refusal(node, context))
                for node in nodes
            ),
        )

    def _serve(self, group: Consumers, context: PassContext, statistics: Statistics) -> tuple[Action, str]:
        """Scale, then clip the consumers of one activation."""
        fmt, search = _next_format(context)
        words = []
        scales = np.ones(group.channels, np.float32)
        obstacle = self._obstacle(group)
        if not obstacle:

            def find() -> Arrays:
                gram, _ = statistics.gram(Gram(group.name))
                seen = _after_corrections(np.asarray(gram, np.float32), context)
                return _found_scales(group, seen, fmt, search, self.steps)

            found = context.journal.recall(f"awq/{group.name}/scales", find)
            scales, (ratio, before, after) = found["scales"].astype(np.float32), found["figures"]
            words.append(f"ratio {ratio:g} for {fmt.name}, {_measure(context)} {before:.2e} -> {after:.2e}")
            obstacle = "" if after < before else f"no ratio lowers the output error of {before:.2e}"
        if not obstacle:
            words.append(f"1/s {self._scale(group, scales)}")
        clipped = self._clips(context) and self._clip(group, scales, context, statistics, fmt)
        detail = "; ".join([", ".join(words) if not obstacle else f"not scaled: {obstacle}"])
        detail += ", weights clipped" if clipped else ""
        return ("transformed" if clipped or not obstacle else "skipped"), detail

    def _obstacle(self, group: Consumers) -> str:
        """Why nothing can absorb the scale; empty where something can."""
        try:
            self._plan(group, np.ones(group.channels))
        except CannotFoldError as error:
            return f"nothing absorbs its scale ({error})"
        return ""

    def _plan(self, group: Consumers, factor: npt.NDArray[np.float64]) -> Fold:
        return plan_fold(group.value, factor, group.readers, copies=self.copies)

    def _scale(self, group: Consumers, scales: Float32) -> str:
        wide = scales.astype(np.float64)
        fold = self._plan(group, 1.0 / wide)
        scaled = apply_fold(fold)
        for view in group.consumers:
            view.node.replace_input_with(0, scaled)
            set_constant(*view.weight_reader, with_inputs_scaled(view, view.array().astype(np.float64), wide))
        return fold.describe()

    def _clips(self, context: PassContext) -> bool:
        if self.clip is not None:
            return self.clip
        following = _following(context)
        return following is None or following.settings.solver == "rtn"

    def _clip(
        self, group: Consumers, scales: Float32, context: PassContext, statistics: Statistics, fmt: Format
    ) -> bool:
        """Clip the weights of all consumers in place; whether any changed."""
        changed = False
        for view in group.consumers:

            def find(view: WeightedNode = view) -> Arrays:
                gram, _ = statistics.gram(Gram(group.name))
                seen = (np.asarray(gram, np.float32) / np.outer(scales, scales)).astype(np.float32)
                return {"weight": search_clip(view.matrix(), seen, fmt)}

            clipped = context.journal.recall(f"awq/{view.weight.name}/clipped", find)["weight"]
            changed |= not np.array_equal(clipped, view.matrix())
            set_constant(*view.weight_reader, clipped if view.output_axis == 1 else clipped.T)
        return changed


def _groups(context: PassContext) -> list[Consumers]:
    """Consumers in scope by what they read, in graph order."""
    views = ((node, weighted(node)) for node in context.nodes())
    return by_activation(view for node, view in views if view is not None and not _refusal(node, context))


def _found_scales(group: Consumers, gram: Float32, fmt: Format, search: Search, steps: int) -> Arrays:
    matrices = [view.matrix() for view in group.consumers]
    ties = tied_channels(group.value, group.channels)
    found = search_scales(matrices, gram, fmt, search=search, steps=steps, ties=ties)
    return {"scales": found.scales, "figures": np.array([found.ratio, found.before, found.after])}


def _following(context: PassContext) -> WeightOnly | None:
    return next((item for item in context.following if isinstance(item, WeightOnly)), None)


def _measure(context: PassContext) -> str:
    following = _following(context)
    corrected = following is not None and following.settings.solver.from_inputs
    return "error left by corrections" if corrected else "output error"


def _after_corrections(gram: Float32, context: PassContext) -> Float32:
    """The Gram matrix that prices the rounding of a row, given what the solver to come does about it."""
    following = _following(context)
    if following is None or not following.settings.solver.from_inputs:
        return gram
    return remaining(gram, following.settings.damping)


def _next_format(context: PassContext) -> tuple[Format, Search]:
    """What the weights will be stored as, and how its scales will be searched."""
    following = _following(context)
    return (
        (Affine(4, 32), Search.MINMAX) if following is None else (following.stored, following.settings.search)
    )


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
