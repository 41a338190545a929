"""Weights in few bits, activations in float: what all passes of this kind share.

    y = X W_q,   W_q[k, n] = scale[g, n] level(code[k, n]) - offset[g, n],   g = k // group

A pass names a *format* (how a weight is stored) and takes a *solver* (which codes stand for it):

| solver | data | |
|---|---|---|
| rtn | no | scale from the extremes of a group, codes rounded to nearest |
| mse | no | scale clipped to least squared error |
| hqq | no | half-quadratic optimization of the zero point (Badri and Shaji, 2023) |
| k_quant | used if given | the weighted search of llama.cpp, by its importance matrix where there is data |
| gptq | yes | rounds row after row, later rows making good earlier errors (arXiv:2210.17323) |
| gptaq | yes | so, towards the float model's output (arXiv:2504.02692) |

Tables and convolutions, whose rows are not observed, are served by the search that gptq fits its scales with.
Weights that several nodes share are quantized once, when the last of their products is reached: a table tied to an
lm_head has the lm_head's codes, solved with its inputs.  Until then the table is float.

It refuses, with the reason: solvers that make no sense for the format, groups that the target cannot run, options
of a solver that is not chosen.  Running it again finds nothing left to quantize.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.calibration.requests import Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.errors import OptionError
from qcompiler.graph.low_bit_codes import TWO_BIT_OPSET
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.low_bit.inputs import Observation
from qcompiler.low_bit.readers import Selection, unreadable
from qcompiler.low_bit.sharing import Sharing, announce, leave_decisions, left_decision
from qcompiler.low_bit.solver import SEARCH, Settings, Solver, refuse_nonsense
from qcompiler.low_bit.words import detail_of
from qcompiler.low_bit.write import quantize_weight_of
from qcompiler.numerics.formats.base import Format, Search
from qcompiler.numerics.gptq import SWEEPS
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option

GROUP_HELP = "weights along the summed axis that share a scale, 16 to 256; 0: all of a column"
SOLVER_HELP = "how codes are found; gptq and gptaq need calibration data"


@dataclass(frozen=True)
class WeightOnly(Pass):
    """Base of passes that store weights in few bits; a subclass names the format."""

    solver: Solver = option(Solver.RTN, SOLVER_HELP)
    search: Search | None = option(None, "gptq, gptaq: how scales are fitted before rounding; none: mse")
    damping: float | None = option(
        None,
        "gptq, gptaq: share of the mean diagonal added to the Gram matrix; none: 0.01",
        minimum=0,
        maximum=1,
    )
    order: bool | None = option(None, "gptq, gptaq: round rows of large inputs first; none: true")
    static_groups: bool | None = option(
        None, "gptq, gptaq: groups of neighbouring rows whatever the order; none: true"
    )
    sweeps: int | None = option(
        None, "gptq, gptaq: of coordinate descent afterwards; 0: as published; none: 3", minimum=0, maximum=20
    )
    sequential: bool | None = option(
        None, "gptq, gptaq: segment by segment, with what the quantized part before gives; none: true"
    )
    importance: bool | None = option(
        None, "mse, hqq, k_quant: weigh by mean squares of inputs; none: k_quant does when data is given"
    )
    embeddings: bool = option(True, "quantize embedding tables (Gather)")
    lm_head: bool = option(True, "quantize the product that makes the model's output")

    by_segment: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for_inputs = ("search", "damping", "order", "static_groups", "sweeps", "sequential")
        given = [name for name in for_inputs if getattr(self, name) is not None]
        if given and not self.solver.from_inputs:
            raise ValueError(
                f"option {given[0]!r} is for solver gptq or gptaq, and the solver is {self.solver}."
            )
        if self.importance and self.solver not in (Solver.MSE, Solver.HQQ, Solver.K_QUANT):
            raise ValueError(
                f"option 'importance' is for solver mse, hqq or k_quant, and it is {self.solver}."
            )
        if self.solver is Solver.GPTAQ and self.sequential is False:
            raise ValueError(
                "gptaq all at once is gptq: it corrects what quantized layers before have changed of the inputs, and "
                "with sequential=false none is quantized yet; use solver gptq."
            )
        if self.solver.from_inputs:
            chosen = (Search.MSE, 0.01, True, True, SWEEPS, True)
            for name, value in zip(for_inputs, chosen, strict=True):
                if getattr(self, name) is None:
                    object.__setattr__(self, name, value)

    @property
    @abc.abstractmethod
    def stored(self) -> Format:
        """The format; raises an OptionError where the options make none."""

    def format_for(self, view: WeightedNode, context: PassContext) -> Format:
        """The format of one node's weight; the same for all unless a subclass says otherwise."""
        del view, context
        return self.stored

    def formats(self) -> Sequence[Format]:
        """Every format that :meth:`format_for` may return."""
        return (self.stored,)

    @property
    def asks_for_data(self) -> bool:
        return self.solver.from_inputs or bool(self.importance)

    @property
    def settings(self) -> Settings:
        """The solver with its options resolved."""
        search = SEARCH.get(self.solver) or self.search or Search.MSE
        return Settings(
            self.solver,
            search,
            0.01 if self.damping is None else self.damping,
            self.order is not False,
            self.static_groups is not False,
            SWEEPS if self.sweeps is None else self.sweeps,
        )

    def weight_bits(self, target: Target) -> int:
        del target
        return min(stored.code_bits for stored in self.formats())

    def least_opset(self, target: Target) -> int:
        narrow = any(stored.code_bits <= 2 for stored in self.formats())
        return TWO_BIT_OPSET if narrow and target.two_bit_types else 0

    def check(self, target: Target) -> None:
        for stored in self.formats():
            refuse_nonsense(stored, self.settings, self.name)
            if reason := target.refuses(stored):
                raise OptionError(
                    f"pass {self.name}: target {target.name} cannot run {stored.name}: {reason}"
                )

    def stages(self, context: PassContext) -> Sequence[frozenset[str]]:
        if not self.solver.from_inputs:
            return super().stages(context)
        from qcompiler.sequential.stages import weighted_levels

        return weighted_levels(context.model, context.scope)

    def statistics(self, context: PassContext) -> Sequence[Request]:
        sharing = Sharing.of(self._selection, context)
        found = (view for view in map(weighted, context.nodes()) if view is not None)
        owners = [view for view in found if sharing.is_owner(view)]
        requests = (self._observation.request(view, context) for view in owners)
        return [request for request in requests if request is not None]

    def foreseen(self, context: PassContext) -> PassReport:
        sharing = Sharing.of(self._selection, context)
        decisions = []
        for node in context.nodes():
            view = weighted(node)
            reason = unreadable(node) if view is None else self._selection.refusal(view, context)
            if reason:
                decisions.append(NodeDecision(str(node.name), node.op_type, "skipped", reason))
            elif view is not None:
                decisions.append(self._decision(view, sharing.readers(view)[-1], context))
        return PassReport(self.name, tuple(decisions))

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        sharing = Sharing.of(self._selection, context)
        decisions = [self._decide(node, context, statistics, sharing) for node in context.nodes()]
        return PassReport(self.name, tuple(decision for decision in decisions if decision is not None))

    def _decide(
        self, node: ir.Node, context: PassContext, statistics: Statistics, sharing: Sharing
    ) -> NodeDecision | None:
        view = weighted(node)
        if view is None:
            left, reason = left_decision(node), unreadable(node)
            skipped = NodeDecision(str(node.name), node.op_type, "skipped", reason) if reason else None
            return left or skipped
        if reason := self._selection.refusal(view, context):
            return NodeDecision(view.name, node.op_type, "skipped", reason)
        readers = sharing.readers(view)
        owner = readers[-1]
        decision = self._decision(view, owner, context)
        if owner.node is not node:
            announce(node)
            return decision
        leave_decisions(readers[:-1], lambda other: self._decision(other, owner, context))
        inputs = partial(self._observation.inputs, view, context, statistics)
        quantize_weight_of(readers, self.format_for(view, context), self.settings, inputs, context)
        return decision

    @property
    def _selection(self) -> Selection:
        return Selection(self.embeddings, self.lm_head)

    @property
    def _observation(self) -> Observation:
        return Observation(self.solver, self.importance)

    def _decision(self, view: WeightedNode, owner: WeightedNode, context: PassContext) -> NodeDecision:
        weighed = self._observation.request(owner, context) is not None
        detail = detail_of(
            view, owner, self.format_for(owner, context), self.settings, context, weighed=weighed
        )
        return NodeDecision(view.name, view.node.op_type, "quantized", detail, stored_only=True)
