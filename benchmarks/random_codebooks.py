"""Weights from codebooks with random codes: what kernels are timed with, without waiting for codes to be found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.codebook import store_channel_table, store_vectors
from qcompiler.graph.weighted import weighted
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.options import option

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

VALUES = 16
ENTRIES, LENGTH = 256, 8


@dataclass(frozen=True)
class RandomCodebook(Pass):
    """Every product's weight: 16 values for each column, or 256 vectors of 8 for each matrix."""

    name: ClassVar[str] = "random_codebook"

    kind: Literal["channels", "vectors"] = option("channels", "channels or vectors")

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        del statistics
        decisions = []
        for node in context.nodes():
            view = weighted(node) if node.op_type in ("MatMul", "Gemm") else None
            if view is None or view.is_tied or view.name not in context.selected:
                continue
            if self.kind == "channels":
                store_channel_table(context.model, view, *random_values(*view.matrix_shape))
            else:
                scale = np.sqrt(np.square(view.matrix()).mean(0)).astype(np.float32)
                store_vectors(context.model, view, *random_vectors(*view.matrix_shape), scale)
            decisions.append(NodeDecision(view.name, node.op_type, "quantized", self.kind, stored_only=True))
        return PassReport(self.name, tuple(decisions))


def random_values(rows: int, columns: int) -> tuple[Codes, Floats]:
    """Codes ``[K, N]`` and values ``[16, N]`` of a weight's size."""
    random = np.random.default_rng(0)
    codes = random.integers(0, VALUES, (rows, columns), np.uint8)
    return codes, random.standard_normal((VALUES, columns), np.float32) / np.float32(np.sqrt(rows))


def random_vectors(rows: int, columns: int) -> tuple[Codes, Floats]:
    """Codes ``[1, K / 8, N]`` and a book ``[1, 256, 8]``."""
    random = np.random.default_rng(0)
    codes = random.integers(0, ENTRIES, (1, rows // LENGTH, columns), np.uint8)
    return codes, random.standard_normal((1, ENTRIES, LENGTH), np.float32)
