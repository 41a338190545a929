"""Perplexity: exp of the mean negative log-likelihood, in nats, of the tokens that count."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import CalibrationError, UnsupportedError
from qcompiler.language.decoder import Decoder
from qcompiler.language.windows import Task, Window

Progress = Callable[[str, int, int | None], None]
LOGITS_BYTES = 256 << 20
"""Windows go together into one run as long as their logits fit into this many bytes of float32."""

_POSITIONS = 256


@dataclass(frozen=True)
class Score:
    """What a model makes of a task.

    Attributes:
        nats: total negative log-likelihood.
        tokens: how many tokens were predicted.
        bytes_scored: UTF-8 bytes of those tokens, None for ids.
        seconds: in the runtime and in the sums.
    """

    name: str
    nats: float
    tokens: int
    windows: int
    bytes_scored: int | None
    seconds: float

    @property
    def perplexity(self) -> float:
        """Per token; infinity where a mean is too large for a float."""
        mean = self.nats / self.tokens
        return math.exp(mean) if mean < 700 else math.inf

    @property
    def bits_per_byte(self) -> float | None:
        """Comparable between tokenizers; None for ids."""
        return None if not self.bytes_scored else self.nats / math.log(2) / self.bytes_scored


def score(
    decoder: Decoder, task: Task, *, batch: int | None = None, progress: Progress | None = None
) -> Score:
    """Score every window of ``task``, each from an empty cache.

    Args:
        batch: windows a run; None takes as many as ``LOGITS_BYTES`` allows, or what the graph fixes.

    Raises:
        CalibrationError: an id that the model does not have, or a result that is not a number.
        UnsupportedError: the graph fixes another batch or length.
    """
    check_ids(task, decoder.signature.vocabulary)
    started, nats, done = time.perf_counter(), 0.0, 0
    for group in _groups(task.windows, batch or _fitting(task.windows, decoder)):
        logits = decoder.logits(_padded(group, decoder))
        nats += sum(_nats(rows, window) for rows, window in zip(logits, group, strict=False))
        done += len(group)
        if progress:
            progress(task.name, done, len(task.windows))
    if math.isnan(nats):
        raise CalibrationError(f"{task.name}: the model's logits hold NaN; check it with `qcompile compare`.")
    tokens = sum(window.predicted for window in task.windows)
    return Score(task.name, nats, tokens, len(task.windows), task.bytes_scored, time.perf_counter() - started)


def check_ids(task: Task, vocabulary: int | None, context_length: int | None = None) -> None:
    """Refuse ids that the model has no embedding for, and windows longer than its context, before any run.

    Raises:
        CalibrationError: names the id, or the length.
    """
    longest = max(len(window.ids) for window in task.windows)
    if context_length is not None and longest > context_length:
        raise CalibrationError(
            f"{task.name} has rows of {longest} tokens, but the model's context holds {context_length}; "
            "give shorter rows."
        )
    low = min(int(window.ids.min()) for window in task.windows)
    high = max(int(window.ids.max()) for window in task.windows)
    if low < 0 or (vocabulary is not None and high >= vocabulary):
        wrong = low if low < 0 else high
        raise CalibrationError(
            f"{task.name} holds the token id {wrong}, but the model knows ids from 0 to {(vocabulary or 0) - 1}; "
            "give ids of its own tokenizer."
        )


def token_nats(logits: npt.NDArray[np.generic], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Negative log-likelihood ``[N]`` in nats of ``targets`` ``[N]`` under ``logits`` ``[N, vocabulary]``."""
    rows = logits.astype(np.float64)
    rows -= rows.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(rows, targets[:, None], axis=-1)[:, 0]
    total: npt.NDArray[np.float64] = np.log(np.exp(rows).sum(axis=-1)) - chosen
    return total


def _nats(logits: npt.NDArray[np.generic], window: Window) -> float:
    """Total over the window's predicted tokens, a few positions at a time: float64 of all would be twice the logits."""
    starts = range(window.first, len(window.ids), _POSITIONS)
    ends = (min(start + _POSITIONS, len(window.ids)) for start in starts)
    return sum(
        float(token_nats(logits[start - 1 : end - 1], window.ids[start:end]).sum())
        for start, end in zip(starts, ends, strict=True)
    )


def _groups(windows: Sequence[Window], batch: int) -> list[Sequence[Window]]:
    return [windows[start : start + batch] for start in range(0, len(windows), batch)]


def _fitting(windows: Sequence[Window], decoder: Decoder) -> int:
    if decoder.signature.batch is not None:
        return decoder.signature.batch
    longest = max(len(window.ids) for window in windows)
    one = 4 * longest * (decoder.signature.vocabulary or 1 << 16)
    return max(1, min(8, LOGITS_BYTES // one))


def _padded(group: Sequence[Window], decoder: Decoder) -> npt.NDArray[np.int64]:
    """Ids ``[B, T]``, filled up at the end of rows, and with rows where the graph fixes how many."""
    longest = max(len(window.ids) for window in group)
    batch, length = decoder.signature.batch or len(group), decoder.signature.length or longest
    if len(group) > batch or longest > length:
        raise UnsupportedError(
            f"{decoder.model} takes input_ids of {batch} x {length} only, got {len(group)} x {longest}; give --batch "
            f"{batch} and windows of at most {length} tokens."
        )
    ids = np.zeros((batch, length), np.int64)
    for row, window in zip(ids, group, strict=False):
        row[: len(window.ids)] = window.ids
    return ids
