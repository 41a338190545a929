"""How far outputs are from the float model's, as one number that small errors of different nodes add up in.

    KL              mean over rows of sum_c p_c (log p_c - log q_c), nats; p is the float model's distribution
    relative error  sum (a - b)^2 / sum a^2, over all judged outputs: the inverse of SQNR as a power ratio

Both are of second order in the error of a weight (the KL divergence of a small perturbation d of the logits is
d'Hd / 2, H being the Fisher information), so that losses of independent errors add up: what an additive program needs.
A language model's rise of the negative log-likelihood is close to its KL to float, and so is the relative rise of its
perplexity.

Which of the two: KL where every judged output is a distribution (rows that sum to 1) or is called logits, else relative
error.  Judged are float outputs, without a decoder's cache where there is anything else; rows of padding (attention
mask 0) do not count; of more rows than memory is given to, evenly spread ones are taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.base import Session
from qcompiler.backends.run_feed import run_feed
from qcompiler.data.feeds import Feed
from qcompiler.errors import CalibrationError, UnsupportedError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Kind = Literal["kl", "relative_error"]

KEPT_BYTES = 48 << 20
"""Of the float model's outputs, over all feeds."""

CACHE = "present"
"""Start of the names of a decoder's cache of keys and values among its outputs."""

MASK = "attention_mask"
WORST = 1e6
"""What NaN or infinity in an output counts as: far above what any distribution of less than e^1e6 classes can give."""

_SMALLEST = 1e-12


def mean_kl(exact: Array, made: Array, *, probabilities: bool) -> float:
    """Mean KL divergence in nats of rows ``[R, C]`` from ``exact`` ones; :data:`WORST` where ``made`` is not finite.

    Args:
        exact: logits, or probabilities.
        made: the same of another model.
        probabilities: whether rows are distributions; else a soft maximum makes them so.
    """
    if not np.isfinite(made).all():
        return WORST
    a, b = (_log_probabilities(rows, probabilities=probabilities) for rows in (exact, made))
    return max(0.0, float(np.einsum("ij,ij->", np.exp(a), a - b)) / len(a))


def _log_probabilities(rows: Array, *, probabilities: bool) -> Floats:
    values = rows.astype(np.float64)
    if probabilities:
        values = np.log(np.maximum(values, _SMALLEST))
    values -= values.max(axis=-1, keepdims=True)
    return np.asarray(values - np.log(np.exp(values).sum(axis=-1, keepdims=True)))


def error_energy(exact: Array, made: Array) -> tuple[float, float]:
    """``(sum (a - b)^2, sum a^2)`` in float64 of two arrays of one shape."""
    a, b = exact.astype(np.float64).reshape(-1), made.astype(np.float64).reshape(-1)
    difference = a - b
    return float(np.einsum("i,i->", difference, difference)), float(np.einsum("i,i->", a, a))


def rows_of(array: Array, feed: Feed, most: int | None) -> Array:
    """An output as rows ``[R, C]`` without padding, at most ``most`` of them, evenly spread.

    Args:
        array: ``[..., C]``; a scalar is one row.
        feed: what it was computed from; ``attention_mask [B, T]`` is looked at where the array is ``[B, T, C]``.
        most: None for all.
    """
    rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    mask = feed.get(MASK)
    if mask is not None and array.ndim == 3 and mask.shape == array.shape[:2] and mask.any():
        rows = rows[mask.reshape(-1) != 0]
    if most is None or len(rows) <= most:
        return rows
    return rows[np.arange(most) * len(rows) // most]


def judged_outputs(model: ir.Model) -> list[str]:
    """Names of the float outputs that a model is judged by.

    Raises:
        UnsupportedError: it has none: labels alone say nothing about small errors.
    """
    kinds = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, ir.DataType.BFLOAT16, None)
    floats = [str(value.name) for value in model.graph.outputs if value.dtype in kinds]
    if not floats:
        raise UnsupportedError(
            "no output of the model is of a float type, so small errors cannot be seen in it; export it with its "
            "logits as an output."
        )
    return [name for name in floats if not name.startswith(CACHE)] or floats


@dataclass(frozen=True)
class _Kept:
    """The float model's rows of one output for one feed."""

    rows: Array
    probabilities: bool


@dataclass
class Yardstick:
    """What the float model makes of some feeds, and how far another model is from it.

    Attributes:
        kind: of the loss; None: by the outputs.
        outputs: names of those that are judged.
        feeds: what models are run on; iterated once for every model.
    """

    outputs: Sequence[str]
    feeds: Iterable[Feed]
    kind: Kind | None = None
    most_bytes: int = KEPT_BYTES
    _kept: list[dict[str, _Kept]] = field(default_factory=list)
    _most: int | None = None

    @classmethod
    def of(
        cls, reference: ir.Model, feeds: Iterable[Feed], *, kind: Kind | None = None, threads: int = 1
    ) -> Yardstick:
        """Run the prepared float model as it is written.

        Raises:
            CalibrationError: no feeds, or they do not fit.
            UnsupportedError: the model has no float output.
        """
        from qcompiler.auto.losses.streams import float_session

        made = cls(judged_outputs(reference), feeds, kind)
        made.learn(float_session(reference, made.outputs, threads=threads))
        return made

    def learn(self, session: Session) -> None:
        """Keep what the float model makes of the feeds."""
        count = sum(1 for _ in self.feeds)
        if not count:
            raise CalibrationError("there is no data to judge models on: give at least one feed.")
        for index, feed in enumerate(self.feeds):
            found = run_feed(session, feed, index)
            self._most = self._most or self._rows_that_fit(found, count)
            self._kept.append({name: _keep(found[name], feed, self._most) for name in self.outputs})
        if self.kind is None:
            self.kind = "kl" if all(map(self._is_distribution, self.outputs)) else "relative_error"

    def loss(self, session: Session) -> float:
        """How far what ``session`` makes of the feeds is from the float model's outputs."""
        return self.of_outputs(run_feed(session, feed, index) for index, feed in enumerate(self.feeds))

    def of_outputs(self, made: Iterable[Mapping[str, Array]]) -> float:
        """The same of outputs at hand, one mapping for every feed, in order."""
        total, signal, count = 0.0, 0.0, 0
        for feed, kept, found in zip(self.feeds, self._kept, made, strict=True):
            for name, exact in kept.items():
                rows = rows_of(np.asarray(found[name]), feed, self._most)
                if rows.shape != exact.rows.shape or not np.isfinite(rows).all():
                    return WORST
                if self.kind == "kl":
                    total += mean_kl(exact.rows, rows, probabilities=exact.probabilities) * len(rows)
                    count += len(rows)
                else:
                    noise, energy = error_energy(exact.rows, rows)
                    total, signal = total + noise, signal + energy
        return total / count if self.kind == "kl" else total / max(signal, _SMALLEST)

    def _is_distribution(self, name: str) -> bool:
        return "logit" in name.lower() or all(kept[name].probabilities for kept in self._kept)

    def _rows_that_fit(self, found: Mapping[str, Array], feeds: int) -> int:
        width = max(np.asarray(found[name]).shape[-1:] or (1,) for name in self.outputs)[0]
        row_bytes = 4 * max(int(width), 1) * len(self.outputs)
        return max(1, self.most_bytes // (feeds * row_bytes))


def _keep(array: Array, feed: Feed, most: int) -> _Kept:
    rows = np.array(rows_of(np.asarray(array), feed, most))
    if not np.isfinite(rows).all():
        raise CalibrationError("the float model itself gives NaN or infinity for this data; give other data.")
    return _Kept(rows, are_probabilities(rows))


def are_probabilities(rows: Array) -> bool:
    """Whether rows ``[R, C]`` of two or more classes are distributions: not negative, and of sum 1 (to 11 bits)."""
    if rows.shape[-1] < 2 or rows.min(initial=0.0) < 0:
        return False
    return bool(np.allclose(rows.astype(np.float64).sum(axis=-1), 1.0, atol=2e-3))


def first_feeds(feeds: Iterable[Feed], count: int) -> list[Feed]:
    """The first feeds, held in memory: they are run through many models."""
    return list(itertools.islice(feeds, count))
