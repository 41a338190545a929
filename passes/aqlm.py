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
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler.backends.base import Target
from qcompiler.calibration.requests import Gram
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.codebook import store_vectors, vector_bits
from qcompiler.graph.weighted import WeightedNode
from qcompiler.low_bit.codebooks import CodebookPass, finite_matrix, half_where_possible
from qcompiler.numerics.gptq import damp
from qcompiler.numerics.vector_codebook import Shape, fit_vectors
from qcompiler.pipeline.base import PassContext
from qcompiler.pipeline.journal import Arrays
from qcompiler.pipeline.options import option

ENTRIES, LENGTH = 256, 8


@dataclass(frozen=True)
class Aqlm(CodebookPass):
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

    def request(self, view: WeightedNode) -> Gram:
        return Gram(str(view.activation.name))

    def too_small(self, view: WeightedNode) -> str:
        rows, weights, least = view.matrix_shape[0], math.prod(view.matrix_shape), 16 * ENTRIES * LENGTH
        if rows % LENGTH:
            return f"its {rows} input channels are no multiple of {LENGTH}"
        if weights < least:
            return f"{weights} weights: below {least} the books take more than the codes; int4 behind it serves it"
        return ""

    def detail(self, view: WeightedNode, *, observed: bool) -> str:
        bits = vector_bits(view.matrix_shape, self.books, ENTRIES, LENGTH)
        how = "for the least error of its output" if observed else "k-means without data"
        return f"{self.books} x {ENTRIES} vectors of {LENGTH}, {how}: {bits:.2f} bits"

    def solve(self, view: WeightedNode, statistics: Statistics | None) -> Arrays:
        gram = None
        if statistics is not None:
            gram, _ = damp(statistics.gram(self.request(view))[0].astype(np.float32), self.damping)
        made = fit_vectors(finite_matrix(view), self.shape, gram, self.sweeps)
        return {"codes": made.codes, "book": made.book, "scale": made.scale}

    def store(self, view: WeightedNode, context: PassContext, solved: Arrays) -> None:
        book, scale = (
            half_where_possible(np.asarray(solved[name], np.float32)) for name in ("book", "scale")
        )
        codes = np.asarray(solved["codes"], np.uint8)
        store_vectors(context.model, view, codes, book, scale, name=f"{self.name}{self.books}")
