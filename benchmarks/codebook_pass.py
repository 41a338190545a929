"""Weights from codebooks, by plain k-means: what the kernels that look weights up are measured with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.codebook import store_channel_table, store_vectors
from qcompiler.graph.weighted import WeightedNode, weighted
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

VALUES = 16
ENTRIES, LENGTH = 256, 8
_ROUNDS = 8
_SAMPLED = 16384
"""Vectors that a codebook is fitted to."""


@dataclass(frozen=True)
class Codebook(Pass):
    """Every product's weight: 16 values for each column, or 256 vectors of 8 for each matrix."""

    name: ClassVar[str] = "codebook"

    kind: Literal["channels", "vectors"] = option("channels", "channels or vectors")
    fitted: bool = option(True, "by k-means; otherwise codes are random, which only timings may be")

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        del statistics
        decisions = []
        for node in context.nodes():
            view = weighted(node) if node.op_type in ("MatMul", "Gemm") else None
            if view is None or view.is_tied or view.name not in context.selected:
                continue
            self._store(context, view)
            decisions.append(NodeDecision(view.name, node.op_type, "quantized", self.kind, stored_only=True))
        return PassReport(self.name, tuple(decisions))

    def _store(self, context: PassContext, view: WeightedNode) -> None:
        matrix = view.matrix()
        if self.kind == "channels":
            made = column_values(matrix) if self.fitted else random_values(*matrix.shape)
            store_channel_table(context.model, view, *made)
            return
        scale = np.sqrt(np.square(matrix).mean(0)).astype(np.float32)
        scale[scale == 0] = 1
        codes, book = vectors(matrix / scale) if self.fitted else random_vectors(*matrix.shape)
        store_vectors(context.model, view, codes, book, scale)


def column_values(matrix: Floats) -> tuple[Codes, Floats]:
    """Codes ``[K, N]`` and values ``[16, N]`` of least squared error, nearly: k-means from quantiles."""
    places = (np.arange(VALUES) + 0.5) / VALUES
    table = np.quantile(matrix, places, axis=0).astype(np.float32)
    for _ in range(_ROUNDS):
        codes = _nearest(matrix, table)
        for code in range(VALUES):
            mine = codes == code
            count = mine.sum(0)
            mean = np.where(mine, matrix, 0).sum(0) / np.maximum(count, 1)
            table[code] = np.where(count, mean, table[code])
        table.sort(axis=0)
    return _nearest(matrix, table), table


def _nearest(matrix: Floats, table: Floats) -> Codes:
    middles = (table[1:] + table[:-1]) / 2
    codes = np.zeros(matrix.shape, np.uint8)
    for middle in middles:
        codes += matrix > middle
    return codes


def vectors(matrix: Floats) -> tuple[Codes, Floats]:
    """Codes ``[1, K/8, N]`` and a book ``[1, 256, 8]`` by k-means on a sample."""
    rows, columns = matrix.shape
    found = matrix.reshape(rows // LENGTH, LENGTH, columns).transpose(0, 2, 1).reshape(-1, LENGTH)
    random = np.random.default_rng(0)
    sample = found[random.permutation(len(found))[:_SAMPLED]]
    book = sample[:ENTRIES].copy()
    for _ in range(_ROUNDS):
        codes = _closest(sample, book)
        sums = np.zeros_like(book)
        np.add.at(sums, codes, sample)
        count = np.bincount(codes, minlength=len(book))[:, np.newaxis]
        book = np.where(count, sums / np.maximum(count, 1), book).astype(np.float32)
    return _closest(found, book).reshape(1, -1, columns).astype(np.uint8), book[np.newaxis]


def _closest(points: Floats, book: Floats) -> npt.NDArray[np.int64]:
    half = np.square(book).sum(1) / 2
    parts = [points[first : first + 65536] for first in range(0, len(points), 65536)]
    return np.concatenate([np.asarray((part @ book.T - half).argmax(1)) for part in parts])


def random_values(rows: int, columns: int) -> tuple[Codes, Floats]:
    """Of the right shapes and of a weight's size."""
    random: Any = np.random.default_rng(0)
    codes = random.integers(0, VALUES, (rows, columns), np.uint8)
    return codes, random.standard_normal((VALUES, columns), np.float32) / np.float32(np.sqrt(rows))


def random_vectors(rows: int, columns: int) -> tuple[Codes, Floats]:
    """As ``random_values``."""
    random: Any = np.random.default_rng(0)
    codes = random.integers(0, ENTRIES, (1, rows // LENGTH, columns), np.uint8)
    return codes, random.standard_normal((1, ENTRIES, LENGTH), np.float32)
