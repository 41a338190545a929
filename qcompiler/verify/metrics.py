"""How far one tensor is from another, accumulated over batches of any shape.

    SQNR = 10 log10(sum a^2 / sum (a - b)^2)      cosine = sum a b / sqrt(sum a^2 sum b^2)

All figures are finite, so that they can be sorted and written as JSON: SQNR is cut at +-200 dB (float32 has 24 bits,
144 dB, so 200 means "no difference" and -200 "nothing in common").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

EXACT_DB = 200.0
"""SQNR of two equal tensors, and with a minus of two that have nothing in common."""

HUGE = 1e30
"""Two values beyond it with the same sign are a mask (-3.4e38, -inf), not a signal: they agree and are left out."""

_LARGEST = 1e100
"""float64 values are cut here, so that the sums of their squares stay finite."""

_CHUNK = 1 << 20


@dataclass
class Difference:
    """Running sums over pairs of tensors ``(a, b)``; a is the reference.

    Attributes:
        elements: pairs seen, masks included.
        equal: pairs that are equal; NaN equals NaN.
        not_finite: pairs of which exactly one is NaN or infinite, or both are and differ.
        reference_not_finite: elements of ``a`` that are NaN, or infinite.
        signal: sum of ``a^2``, float64.
        other: sum of ``b^2``.
        dot: sum of ``a b``.
        noise: sum of ``(a - b)^2``.
        max_abs_error: largest finite ``|a - b|``.
        batches: calls of ``update``.
        shape_mismatches: batches whose shapes differ; of these nothing else is counted.
    """

    elements: int = 0
    equal: int = 0
    not_finite: int = 0
    reference_not_finite: int = 0
    signal: float = 0.0
    other: float = 0.0
    dot: float = 0.0
    noise: float = 0.0
    max_abs_error: float = 0.0
    batches: int = 0
    shape_mismatches: int = 0

    def update(self, a: Array, b: Array) -> None:
        """Add one pair of tensors, of numbers, booleans or strings."""
        a, b = np.asarray(a), np.asarray(b)
        self.batches += 1
        if a.shape != b.shape:
            self.shape_mismatches += 1
            return
        self.elements += a.size
        if not (_is_numeric(a) and _is_numeric(b)):
            self.equal += int(np.count_nonzero(a == b))
            return
        flat_a, flat_b = a.reshape(-1), b.reshape(-1)
        for start in range(0, a.size, _CHUNK):
            stop = start + _CHUNK
            self._add(flat_a[start:stop].astype(np.float64), flat_b[start:stop].astype(np.float64))

    def _add(self, a: Array, b: Array) -> None:
        extremes = np.array([a.max(), -a.min(), b.max(), -b.min()])
        if (extremes < HUGE).all():  # false where any is NaN
            self.equal += int(np.count_nonzero(a == b))
            self._add_finite(a, b)
        else:
            self._add_special(a, b)

    def _add_special(self, a: Array, b: Array) -> None:
        """Count what is NaN, infinite or a mask, and add the rest."""
        finite_a, finite_b = np.isfinite(a), np.isfinite(b)
        self.equal += int(np.count_nonzero((a == b) | (np.isnan(a) & np.isnan(b))))
        self.reference_not_finite += int(np.count_nonzero(~finite_a))
        usable = finite_a & finite_b
        masks = (np.abs(a) >= HUGE) & (np.abs(b) >= HUGE) & (np.sign(a) == np.sign(b))
        agree = usable | masks | (np.isnan(a) & np.isnan(b))
        self.not_finite += int(np.count_nonzero(~agree))
        usable &= ~masks
        if not usable.all():
            a, b = a[usable], b[usable]
        if a.size:
            self._add_finite(np.clip(a, -_LARGEST, _LARGEST), np.clip(b, -_LARGEST, _LARGEST))

    def _add_finite(self, a: Array, b: Array) -> None:
        error = a - b
        self.signal += _dot(a, a)
        self.other += _dot(b, b)
        self.dot += _dot(a, b)
        self.noise += _dot(error, error)
        self.max_abs_error = max(self.max_abs_error, float(error.max()), -float(error.min()))

    def merge(self, more: Difference) -> Difference:
        """The difference over both sets of batches."""
        return Difference(
            elements=self.elements + more.elements,
            equal=self.equal + more.equal,
            not_finite=self.not_finite + more.not_finite,
            reference_not_finite=self.reference_not_finite + more.reference_not_finite,
            signal=self.signal + more.signal,
            other=self.other + more.other,
            dot=self.dot + more.dot,
            noise=self.noise + more.noise,
            max_abs_error=max(self.max_abs_error, more.max_abs_error),
            batches=self.batches + more.batches,
            shape_mismatches=self.shape_mismatches + more.shape_mismatches,
        )

    @property
    def sqnr_db(self) -> float:
        """Signal to noise in [-200, 200] dB; 200 for no error (also of zeros or nothing), -200 for NaN in one."""
        if self.not_finite or self.shape_mismatches:
            return -EXACT_DB
        if self.noise == 0.0:
            return EXACT_DB
        if self.signal == 0.0:
            return -EXACT_DB
        return max(-EXACT_DB, min(EXACT_DB, 10.0 * (math.log10(self.signal) - math.log10(self.noise))))

    @property
    def cosine(self) -> float:
        """In [-1, 1]; 1 for two zeros or nothing, 0 for a zero beside a signal and for NaN in one."""
        if self.not_finite or self.shape_mismatches:
            return 0.0
        if self.signal == 0.0 or self.other == 0.0:
            return 1.0 if self.signal == self.other else 0.0
        return max(-1.0, min(1.0, self.dot / (math.sqrt(self.signal) * math.sqrt(self.other))))

    @property
    def rms_error(self) -> float:
        """Root of the mean squared error over all elements."""
        return math.sqrt(self.noise / self.elements) if self.elements else 0.0

    @property
    def exact_share(self) -> float:
        """Share of equal elements; a batch of another shape counts as wrong as a whole; 1 for nothing."""
        share = self.equal / self.elements if self.elements else 1.0
        return share * (1.0 - self.shape_mismatches / self.batches) if self.batches else share


def format_db(sqnr_db: float) -> str:
    """``"31.2 dB"``, and words at the two ends of the scale."""
    if sqnr_db >= EXACT_DB:
        return "exact"
    return "nothing in common" if sqnr_db <= -EXACT_DB else f"{sqnr_db:.1f} dB"


def _is_numeric(array: Array) -> bool:
    return array.dtype.kind in "fiub" or array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def _dot(a: Array, b: Array) -> float:
    """Sum of products of two vectors, on one thread.

    ``a @ b`` wakes the threads of a BLAS, which spin against those of the runtime: on a busy machine of two cores
    that made the verification of a small model take 120 s instead of 12.
    """
    return float(np.einsum("i,i->", a, b))
