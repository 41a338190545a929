"""Spearman's rank correlation of an encoder: are sentences that people find alike close in the embedding?

Rows 2i and 2i + 1 of the data are a pair and ``scores`` holds what people said of it; the model's answer is the cosine
of the two embeddings.  An output ``[n, D]`` is an embedding; ``[n, T, D]`` is averaged over the tokens that the
attention mask leaves, as sentence encoders do (arXiv:1908.10084).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.auto.losses.yardstick import MASK, Kind, judged_outputs
from qcompiler.auto.metrics.data import SCORES, MetricData
from qcompiler.auto.metrics.metric import Metric, absolute_drop
from qcompiler.backends.base import Session
from qcompiler.backends.run_feed import run_feed
from qcompiler.data.feeds import Array, Feed
from qcompiler.data.optional import load_package
from qcompiler.errors import CalibrationError


@dataclass
class Spearman(Metric):
    """Rank correlation of cosines ``[n / 2]`` with scores ``[n / 2]``."""

    data: MetricData
    scores: npt.NDArray[np.float64]
    output: str
    name: str = "spearman"
    words: str = "Spearman correlation of embeddings"
    surrogate: ClassVar[Kind | None] = "relative_error"
    scatters: ClassVar[bool] = True

    def measure(self, session: Session) -> float:
        from scipy.stats import spearmanr

        found = [
            embeddings(np.asarray(run_feed(session, feed, index)[self.output]), feed)
            for index, feed in enumerate(self.data)
        ]
        rows = np.concatenate(found)
        cosines = np.einsum("ij,ij->i", rows[0::2], rows[1::2])
        if not np.isfinite(cosines).all() or np.ptp(cosines) == 0:
            return 0.0  # what says nothing is not correlated
        return float(spearmanr(cosines, self.scores).statistic)

    def loss(self, value: float, float_value: float) -> float:
        return absolute_drop(value, float_value, higher_is_better=True)


def embeddings(output: Array, feed: Feed) -> npt.NDArray[np.float64]:
    """Unit-length embeddings ``[n, D]`` of an output ``[n, D]``, or ``[n, T, D]`` averaged over its tokens."""
    rows = output.astype(np.float64)
    if rows.ndim == 3:
        mask = feed.get(MASK)
        weight = np.ones(rows.shape[:2]) if mask is None else mask.astype(np.float64)
        rows = np.einsum("ntd,nt->nd", rows, weight) / np.maximum(weight.sum(axis=1), 1.0)[:, None]
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12))


def open_spearman(model: ir.Model, data: MetricData) -> Spearman:
    """Spearman's correlation on pairs of rows.

    Raises:
        CalibrationError: there are no scores, or no pairs.
        UnsupportedError: the model has no float output.
    """
    load_package("scipy.stats", purpose="to rank similarities")
    scores = data.first(SCORES)
    if scores is None:
        raise CalibrationError(
            "spearman needs an array 'scores' beside the model's inputs, with rows 2i and 2i+1 a pair; give it with "
            "--metric-data."
        )
    if len(scores) < 4 or len(scores) % 2 or scores.ndim != 1:
        raise CalibrationError(
            f"scores are {list(scores.shape)} for pairs of rows, expected an even number of at least 4; give all pairs."
        )
    output = next((name for name in judged_outputs(model) if "embed" in name), judged_outputs(model)[0])
    return Spearman(data, scores[0::2].astype(np.float64), output)
