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
from dataclasses import dataclass, replace
from typing import ClassVar

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.calibration.requests import ChannelMeanSquare, Gram, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.graph.low_bit import store_low_bit
from qcompiler.graph.low_bit_codes import TWO_BIT_OPSET
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.low_bit.order import ordered
from qcompiler.low_bit.readers import Selection, can_be_observed, tied_to, unreadable
from qcompiler.low_bit.solver import (
    SEARCH,
    Inputs,
    Settings,
    Solver,
    recalled,
    refuse_nonsense,
    solve_weight,
)
from qcompiler.low_bit.words import detail_of
from qcompiler.numerics.formats.base import Format, Search
from qcompiler.numerics.gptq import SWEEPS, Solution
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option

GROUP_HELP = "weights along the summed axis that share a scale, 16 to 256; 0: all of a column"
SOLVER_HELP = "how codes are found; gptq and gptaq need calibration data"

_STORED_WITH = "qcompiler.stored_with"
"""``ir.Node.meta``: the decision on a node whose weight was stored with another's, until it is reported."""

_ANNOUNCED = "qcompiler.announced"
"""``ir.Node.meta``: the pass that reported a node before its weight was stored with another's."""


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
        order = _graph_order(context.model)
        found = (view for view in map(weighted, context.nodes()) if view is not None)
        owners = [view for view in found if self._is_owner(view, context, order)]
        return [request for view in owners if (request := self._request(view, context)) is not None]

    def foreseen(self, context: PassContext) -> PassReport:
        order = _graph_order(context.model)
        decisions = []
        for node in context.nodes():
            view = weighted(node)
            reason = unreadable(node) if view is None else self._selection.refusal(view, context)
            if reason:
                decisions.append(NodeDecision(str(node.name), node.op_type, "skipped", reason))
            elif view is not None:
                decisions.append(self._decision(view, self._shared(view, context, order)[-1], context))
        return PassReport(self.name, tuple(decisions))

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        order = _graph_order(context.model)
        decisions = [self._decide(node, context, statistics, order) for node in context.nodes()]
        return PassReport(self.name, tuple(decision for decision in decisions if decision is not None))

    def _decide(
        self, node: ir.Node, context: PassContext, statistics: Statistics, order: dict[ir.Node, int]
    ) -> NodeDecision | None:
        if (announced_by := node.meta.get(_ANNOUNCED)) is not None and announced_by is not self:
            return None  # float still, but that pass has it
        view = weighted(node)
        if view is None:
            stored_with: NodeDecision | None = node.meta.pop(_STORED_WITH, None)
            reason = unreadable(node)
            skipped = NodeDecision(str(node.name), node.op_type, "skipped", reason) if reason else None
            return stored_with or skipped
        if reason := self._selection.refusal(view, context):
            return NodeDecision(view.name, node.op_type, "skipped", reason)
        shared = self._shared(view, context, order)
        owner = shared[-1]
        decision = self._decision(view, owner, context)
        if owner.node is not node:
            node.meta[_ANNOUNCED] = self
            return decision
        for other in shared[:-1]:
            if other.node.meta.pop(_ANNOUNCED, None) is None:
                other.node.meta[_STORED_WITH] = self._decision(other, owner, context)
        self._store(shared, context, statistics)
        return decision

    def _store(self, shared: list[WeightedNode], context: PassContext, statistics: Statistics) -> None:
        """Quantize the weight that all of ``shared`` read, for the last of them."""
        view = shared[-1]
        stored = self.format_for(view, context)
        settings = self.settings
        if len(shared) > 1 or view.is_tied:  # the others would have to read other rows than they look for
            settings = replace(settings, static_groups=True)

        def make() -> Solution:
            inputs = self._inputs(view, context, statistics)
            return solve_weight(view.matrix(), stored, settings, inputs)

        try:
            key = f"{view.weight.name}/{view.output_axis}"
            solution = recalled(context.journal.recall, key, make) if self._is_costly else make()
        except UnsupportedError as error:
            raise UnsupportedError(f"{error} (--exclude {view.name!r})") from error
        store_low_bit(
            context.model,
            view,
            stored,
            solution.codes,
            solution.grid,
            tied=shared[:-1],
            order=solution.order,
        )
        if solution.order is not None:
            view.node.replace_input_with(0, ordered(view.activation, solution.order))

    @property
    def _is_costly(self) -> bool:
        return self.solver is not Solver.RTN

    @property
    def _selection(self) -> Selection:
        return Selection(self.embeddings, self.lm_head)

    def _shared(
        self, view: WeightedNode, context: PassContext, order: dict[ir.Node, int]
    ) -> list[WeightedNode]:
        """The nodes that will read the same codes as ``view``, the one they are solved for last."""
        accepted = [other for other in tied_to(view) if not self._selection.refusal(other, context)]
        return sorted(accepted, key=lambda other: (other.node.op_type != "Gather", order[other.node]))

    def _is_owner(self, view: WeightedNode, context: PassContext, order: dict[ir.Node, int]) -> bool:
        if self._selection.refusal(view, context):
            return False
        return self._shared(view, context, order)[-1].node is view.node

    def _request(self, view: WeightedNode, context: PassContext) -> Request | None:
        if not can_be_observed(view, context.model):
            return None
        name = str(view.activation.name)
        if self.solver.from_inputs:
            return Gram(name, drift=self.solver is Solver.GPTAQ)
        return ChannelMeanSquare(name) if self._weighs(context) else None

    def _weighs(self, context: PassContext) -> bool:
        automatic = self.importance is None and self.solver is Solver.K_QUANT and context.has_data
        return bool(self.importance) or automatic

    def _inputs(self, view: WeightedNode, context: PassContext, statistics: Statistics) -> Inputs:
        request = self._request(view, context)
        if isinstance(request, Gram):
            gram, drift = statistics.gram(request)
            return Inputs(None, gram.astype("f4", copy=False), None if drift is None else drift.astype("f4"))
        if isinstance(request, ChannelMeanSquare):
            return Inputs(statistics.array(request).astype("f4", copy=False))
        return Inputs()

    def _decision(self, view: WeightedNode, owner: WeightedNode, context: PassContext) -> NodeDecision:
        weighed = self._request(owner, context) is not None
        detail = detail_of(
            view, owner, self.format_for(owner, context), self.settings, context, weighed=weighed
        )
        return NodeDecision(view.name, view.node.op_type, "quantized", detail, stored_only=True)


def _graph_order(model: ir.Model) -> dict[ir.Node, int]:
    return {node: index for index, node in enumerate(model.graph.all_nodes())}
