"""Weights as sums of vectors from books that a matrix shares: 1 or 2 bits each (AQLM, arXiv:2401.06118).

    W[8 g + j, n] ~ s[n] sum_b book[b, code[b, g, n], j],   256 vectors of 8 weights a book, ``books`` of them

Where data is given, codes, books and scales are those of least error of the product's output, tr E'(X'X)E, found layer
by layer: k-means, rounding with feedback, then sweeps of exact coordinate descent over codes and least squares over
books.  The paper goes on to train books and the rest of a model by gradients, which is what makes 2 bits as good as it
reports; that is not done here.  Without data k-means alone is used, and much is lost.

Only MatMul and Gemm: tables, convolutions and LSTM are left, weights that another node reads too, K that 8 does not
divide, and matrices so small that the books would take more than the codes.  tvm-cpu has a kernel; where the target has
none (ort-cpu) each column is rounded to a grid of int8 and stored in 8 bits.

Running it again finds nothing to do.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.calibration.requests import Gram, Request
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.codebook import store_vectors, vector_bits
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.low_bit.codebooks import finite_matrix, half_where_possible, looked_up_refusal
from qcompiler.low_bit.readers import can_be_observed, unreadable
from qcompiler.numerics.gptq import damp
from qcompiler.numerics.vector_codebook import Shape, fit_vectors
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.journal import Arrays
from qcompiler.pipeline.options import option

ENTRIES, LENGTH = 256, 8


@dataclass(frozen=True)
class Aqlm(Pass):
    """Weights of 1 or 2 bits from books of vectors, activations in float."""

    name: ClassVar[str] = "aqlm"

    books: int = option(2, "vectors that are added: 1 bit a weight each", minimum=1, maximum=2)
    sweeps: int = option(4, "over codes, books and scales, with data; 0: none", minimum=0, maximum=50)
    damping: float = option(
        0.01, "share of the mean diagonal added to the Gram matrix", minimum=1e-6, maximum=1
    )
    lm_head: bool = option(True, "quantize the product that makes the model's output")

    @property
    def shape(self) -> Shape:
        """Of the books."""
        return Shape(self.books, ENTRIES, LENGTH)

    def weight_bits(self, target: Target) -> int:
        del target
        return self.books

    def statistics(self, context: PassContext) -> Sequence[Request]:
        views = (weighted(node) for node in context.nodes())
        taken = (view for view in views if view is not None and not self._refusal(view, context))
        return [_gram(view) for view in taken if _observed(view, context)]

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
        bits = vector_bits(view.matrix_shape, self.books, ENTRIES, LENGTH)
        how = "for the least error of its output" if _observed(view, context) else "k-means without data"
        if statistics is not None:
            self._store(view, context, statistics)
        detail = f"{self.books} x {ENTRIES} vectors of {LENGTH}, {how}: {bits:.2f} bits"
        return NodeDecision(view.name, node.op_type, "quantized", detail, stored_only=True)

    def _store(self, view: WeightedNode, context: PassContext, statistics: Statistics) -> None:
        def solve() -> Arrays:
            gram = None
            if _observed(view, context):
                gram, _ = damp(statistics.gram(_gram(view))[0].astype(np.float32), self.damping)
            made = fit_vectors(finite_matrix(view), self.shape, gram, self.sweeps)
            return {"codes": made.codes, "book": made.book, "scale": made.scale}

        known = context.journal.recall(f"{view.weight.name}/{view.output_axis}", solve)
        book, scale = (half_where_possible(np.asarray(known[name], np.float32)) for name in ("book", "scale"))
        codes = np.asarray(known["codes"], np.uint8)
        store_vectors(context.model, view, codes, book, scale, name=f"{self.name}{self.books}")

    def _refusal(self, view: WeightedNode, context: PassContext) -> str:
        if reason := looked_up_refusal(view, context, lm_head=self.lm_head):
            return reason
        rows, weights = view.matrix_shape[0], math.prod(view.matrix_shape)
        if rows % LENGTH:
            return f"its {rows} input channels are no multiple of {LENGTH}"
        least = 16 * ENTRIES * LENGTH
        if weights < least:
            return f"{weights} weights: below {least} the books take more than the codes; int4 behind it serves it"
        return ""


def _observed(view: WeightedNode, context: PassContext) -> bool:
    return context.has_data and can_be_observed(view, context.model)


def _gram(view: WeightedNode) -> Gram:
    return Gram(str(view.activation.name))
