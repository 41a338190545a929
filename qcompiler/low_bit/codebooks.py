"""What passes share that look weights up in codebooks: which nodes they leave, what is asked, how values are kept."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.requests import Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.errors import UnsupportedError
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.low_bit.readers import PRODUCTS, Selection, can_be_observed, unreadable
from qcompiler.numerics.formats.base import Float32
from qcompiler.numerics.formats.half import LARGEST
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.journal import Arrays

_LEAST_NORMAL = float(np.finfo(np.float16).tiny)


class CodebookPass(Pass):
    """Base of passes that store weights in codebooks; subclasses are frozen dataclasses with this option."""

    lm_head: bool

    @abc.abstractmethod
    def request(self, view: WeightedNode) -> Request:
        """What is asked for about the inputs of a product."""

    @abc.abstractmethod
    def too_small(self, view: WeightedNode) -> str:
        """Why a product has no use for codebooks, by its shape; "" where it has."""

    @abc.abstractmethod
    def detail(self, view: WeightedNode, *, observed: bool) -> str:
        """What the report says about a product that is served."""

    @abc.abstractmethod
    def solve(self, view: WeightedNode, statistics: Statistics | None) -> Arrays:
        """Codes and books of a weight; ``statistics`` are None where its inputs are not looked at."""

    @abc.abstractmethod
    def store(self, view: WeightedNode, context: PassContext, solved: Arrays) -> None:
        """Put what :meth:`solve` has found, perhaps in a run before, into the graph."""

    def observes(self, view: WeightedNode, context: PassContext) -> bool:
        """Whether :meth:`request` is made of a product."""
        return context.has_data and can_be_observed(view, context.model)

    def statistics(self, context: PassContext) -> Sequence[Request]:
        views = (weighted(node) for node in context.nodes())
        taken = (view for view in views if view is not None and not self._refusal(view, context))
        return [self.request(view) for view in taken if self.observes(view, context)]

    def foreseen(self, context: PassContext) -> PassReport:
        return self._report(context, None)

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        return self._report(context, statistics)

    def _report(self, context: PassContext, statistics: Statistics | None) -> PassReport:
        found = (self._decide(node, context, statistics) for node in context.nodes())
        return PassReport(self.name, tuple(decision for decision in found if decision is not None))

    def _decide(
        self, node: ir.Node, context: PassContext, statistics: Statistics | None
    ) -> NodeDecision | None:
        """What becomes of one node; it is changed unless ``statistics`` is None."""
        view = weighted(node)
        reason = unreadable(node) if view is None else self._refusal(view, context)
        if view is None or reason:
            return NodeDecision(str(node.name), node.op_type, "skipped", reason) if reason else None
        observed = self.observes(view, context)
        detail = self.detail(view, observed=observed)
        if statistics is not None:
            key, seen = f"{view.weight.name}/{view.output_axis}", statistics if observed else None
            self.store(view, context, context.journal.recall(key, lambda: self.solve(view, seen)))
        return NodeDecision(view.name, node.op_type, "quantized", detail, stored_only=True)

    def _refusal(self, view: WeightedNode, context: PassContext) -> str:
        product = view.node.op_type in PRODUCTS
        if product and view.is_tied:
            served = "codebooks serve one product: int8 or int4 behind it does both"
            return f"its weight is tied to another node's, and {served}"
        if reason := Selection(embeddings=True, lm_head=self.lm_head).refusal(view, context):
            return reason
        if product:
            return self.too_small(view)
        kind = "a table of rows" if view.node.op_type == "Gather" else "a convolution"
        return f"{kind} has no codebook kernel: int8 or int4 behind it serves it"


def finite_matrix(view: WeightedNode) -> Float32:
    """The weight ``[K, N]``.

    Raises:
        UnsupportedError: it holds NaN or infinity.
    """
    matrix = view.matrix()
    if np.isfinite(matrix.min()) and np.isfinite(matrix.max()):
        return matrix
    raise UnsupportedError(
        f"weight {str(view.weight.name)!r} of {view.node.op_type} {view.name!r}: it holds NaN or infinity, which no "
        f"codebook stands for (--exclude {view.name!r} leaves it in float)"
    )


def half_where_possible(values: Float32) -> Float32:
    """Values rounded to float16, as float32; as they are where the largest is out of its normal range."""
    largest = np.abs(values).max(initial=0.0)
    if not _LEAST_NORMAL < largest <= LARGEST:
        return values
    return values.astype(np.float16).astype(np.float32)
