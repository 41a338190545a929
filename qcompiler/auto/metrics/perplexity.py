"""Perplexity of any session, on feeds: a row of ``input_ids`` from its beginning, every token but the first counts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.auto.losses.yardstick import MASK, Kind
from qcompiler.auto.metrics.data import LENGTHS, MetricData
from qcompiler.auto.metrics.metric import IDS, LOGITS, Metric, is_language_model, relative_drop
from qcompiler.backends.base import Session
from qcompiler.backends.run_feed import run_feed
from qcompiler.data.feeds import Feed
from qcompiler.errors import CalibrationError, UnsupportedError
from qcompiler.language.perplexity import token_nats

LARGEST = 1e9
"""What NaN in logits counts as: a model that knows nothing has the perplexity of its vocabulary."""


@dataclass
class Perplexity(Metric):
    """exp of the mean negative log-likelihood a token.

    Attributes:
        lengths: ``[n]`` tokens of each row that count; None: by the attention mask, else all.
    """

    data: MetricData
    lengths: npt.NDArray[np.int64] | None = None
    name: str = "perplexity"
    words: str = "perplexity"
    surrogate: ClassVar[Kind | None] = "kl"
    scatters: ClassVar[bool] = True

    def measure(self, session: Session) -> float:
        nats, tokens, done = 0.0, 0, 0
        for index, feed in enumerate(self.data):
            ids = feed[IDS]
            logits = np.asarray(run_feed(session, feed, index)[LOGITS])
            for row, end in enumerate(self._ends(feed, done)):
                nats += float(token_nats(logits[row, : end - 1], ids[row, 1:end].astype(np.int64)).sum())
                tokens += end - 1
            done += len(ids)
        if not tokens:
            raise CalibrationError("no row has two tokens, so nothing is predicted; give longer texts.")
        return math.exp(min(nats / tokens, math.log(LARGEST))) if math.isfinite(nats) else LARGEST

    def loss(self, value: float, float_value: float) -> float:
        return relative_drop(value, float_value, higher_is_better=False)

    def surrogate_of(self, drop: float) -> float:
        return math.log1p(max(drop, 0.0))

    def _ends(self, feed: Feed, done: int) -> Iterator[int]:
        """Tokens of each row, at least 1."""
        count, longest = feed[IDS].shape
        mask = feed.get(MASK)
        for row in range(count):
            if self.lengths is not None:
                yield int(np.clip(self.lengths[done + row], 1, longest))
            elif mask is not None and mask.shape == (count, longest):
                yield max(1, int(mask[row].sum()))
            else:
                yield longest


def open_perplexity(model: ir.Model, data: MetricData) -> Perplexity:
    """Perplexity of ``model`` and of what is made of it.

    Raises:
        UnsupportedError: it is no language model.
    """
    if not is_language_model(model):
        raise UnsupportedError(
            f"perplexity needs a model that makes {LOGITS!r} [B, T, V] of {IDS!r} [B, T], and this one takes "
            f"{[value.name for value in model.graph.inputs][:4]}; use another metric, such as kl."
        )
    lengths = data.first(LENGTHS)
    return Perplexity(data, None if lengths is None else lengths.astype(np.int64))
