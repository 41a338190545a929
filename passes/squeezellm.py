"""Weights as indices of a few float values that each output channel has for itself (SqueezeLLM, arXiv:2306.07629).

    W[k, n] ~ table[code[k, n], n],   min over table [E, N] and codes of  sum_k h[k] (W[k, n] - table[code[k, n], n])^2

by k-means; E = 16 values (4 bits) or 8 (3 bits).  The paper weighs each weight by how much the loss depends on it, from
gradients.  A compiler has none: h are mean squares of the inputs, the diagonal of X'X, which is what an error of a
weight costs the product's own output.  Without data h = 1.  The paper's sparse outliers are not made: the values that a
channel has for itself bend to them.

Only MatMul and Gemm: tables of rows, convolutions and LSTM are left, and weights that another node reads too, and
channels so short that their values would take more than their codes.  ``int8`` or ``int4`` behind it take what is left.
Where the target has no kernel for codebooks (ort-cpu) each channel is rounded to a grid of int8 and stored in 8 bits.

Running it again finds nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from qcompiler.backends.base import Target
from qcompiler.calibration.requests import ChannelMeanSquare
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.codebook import channel_bits, store_channel_table
from qcompiler.graph.weighted import WeightedNode
from qcompiler.low_bit.codebooks import CodebookPass, finite_matrix, half_where_possible
from qcompiler.low_bit.readers import can_be_observed
from qcompiler.numerics.kmeans import Codes, Float32, fit_tables, nearest_codes
from qcompiler.pipeline.base import PassContext
from qcompiler.pipeline.journal import Arrays
from qcompiler.pipeline.options import option


@dataclass(frozen=True)
class SqueezeLlm(CodebookPass):
    """Weights from a codebook of floats for each output channel, activations in float."""

    name: ClassVar[str] = "squeezellm"

    bits: int = option(4, "4: 16 values a channel; 3: 8 values", minimum=3, maximum=4)
    importance: bool | None = option(
        None, "weigh by mean squares of inputs, which needs data; none: where data is given"
    )
    lm_head: bool = option(True, "quantize the product that makes the model's output")

    @property
    def asks_for_data(self) -> bool:
        return bool(self.importance)

    @property
    def entries(self) -> int:
        """Values of a channel."""
        return 1 << self.bits

    def weight_bits(self, target: Target) -> int:
        del target
        return self.bits

    def observes(self, view: WeightedNode, context: PassContext) -> bool:
        wanted = context.has_data if self.importance is None else self.importance
        return wanted and can_be_observed(view, context.model)

    def request(self, view: WeightedNode) -> ChannelMeanSquare:
        return ChannelMeanSquare(str(view.activation.name))

    def too_small(self, view: WeightedNode) -> str:
        rows, least = view.matrix_shape[0], 16 * self.entries // self.bits
        if rows < least:
            return f"channels of {rows} weights: below {least} their {self.entries} values take more than the codes"
        return ""

    def detail(self, view: WeightedNode, *, observed: bool) -> str:
        how = "k-means weighed by its inputs" if observed else "k-means"
        padded = ", codes in 4-bit containers" if self.bits < 4 else ""
        bits = channel_bits(view.matrix_shape, self.entries)
        return f"{self.entries} values a channel, {how}: {bits:.2f} bits{padded}"

    def solve(self, view: WeightedNode, statistics: Statistics | None) -> Arrays:
        squares = None if statistics is None else statistics.array(self.request(view)).astype(np.float32)
        codes, table = channel_codebook(finite_matrix(view), self.entries, squares)
        return {"codes": codes, "table": table}

    def store(self, view: WeightedNode, context: PassContext, solved: Arrays) -> None:
        codes, table = np.asarray(solved["codes"], np.uint8), np.asarray(solved["table"], np.float32)
        store_channel_table(context.model, view, codes, table, name=f"{self.name}{self.bits}")


def channel_codebook(weights: Float32, entries: int, importance: Float32 | None) -> tuple[Codes, Float32]:
    """Codes ``[K, N]`` and values ``[entries, N]``, in rising order, of ``weights [K, N]``.

    Args:
        weights: finite.
        entries: values of a column.
        importance: ``[K]``, what a squared error of each row costs; None for ones.
    """
    table = half_where_possible(fit_tables(weights, entries, importance))
    return nearest_codes(weights, table), table
