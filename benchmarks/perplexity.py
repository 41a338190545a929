"""Perplexity of a model file over rows of token ids, in ONNX Runtime with every weight as its format says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qcompiler.measure.sessions import timing_options, timing_session

if TYPE_CHECKING:
    import onnxruntime

Ids = npt.NDArray[np.int64]

BATCH = 4


def perplexity_of(path: Path, ids: Ids, lengths: Ids | None = None) -> float:
    """exp of the mean negative log-likelihood in nats of the predicted tokens.

    Args:
        path: a model from ``input_ids [B, T]`` to ``logits [B, T, V]``, without a cache.
        ids: ``[n, T]``.
        lengths: tokens of each row that count, ``[n]``; all of them by default.
    """
    session = session_of(path)
    counts = np.full(len(ids), ids.shape[1]) if lengths is None else lengths
    total, predicted = 0.0, 0
    for start in range(0, len(ids), BATCH):
        rows, sizes = ids[start : start + BATCH], counts[start : start + BATCH]
        losses = _losses(np.asarray(session.run(None, {"input_ids": rows})[0]), rows)
        counted = np.arange(rows.shape[1] - 1) < sizes[:, np.newaxis] - 1
        total += float(losses[counted].sum())
        predicted += int(counted.sum())
    return float(np.exp(total / predicted))


def session_of(path: Path) -> onnxruntime.InferenceSession:
    """A session in which nothing rounds activations but what the file says.

    The runtime puts MatMulNBits in the place of DequantizeLinear and MatMul, and by default lets it round
    activations to int8; nodes that are MatMulNBits in the file keep the accuracy level that they have there.
    """
    options = timing_options(threads=1)
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")
    return timing_session(path, options=options)


def _losses(logits: npt.NDArray[np.generic], ids: Ids) -> npt.NDArray[np.float64]:
    """Negative log-likelihood of every token but the first: ``[B, T - 1]``."""
    rows = logits[:, :-1].astype(np.float64)
    rows -= rows.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(rows, ids[:, 1:, np.newaxis], axis=-1)[..., 0]
    return np.asarray(np.log(np.exp(rows).sum(axis=-1)) - chosen)
