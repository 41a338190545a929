"""Values that a transform has scaled per channel (smoothing, equalization): the same name, another unit.

Compared as they are they look wrong, 3 dB, though nothing was lost. So ``b = g_c a`` is fitted per channel by least
squares, ``g_c = sum a b / sum a^2``, and what the fit leaves over is the error:

    sum_c (sum b^2 - (sum a b)^2 / sum a^2)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.verify.metrics import EXACT_DB, Array

SUSPICIOUS_DB = 20.0
"""Above this a value is not rescaled."""

SURE_DB = 10.0
"""How much better the fit must be to speak of rescaling."""

_ELEMENTS_PER_CHANNEL = 16
"""With fewer the fit is good by its freedom alone: it lowers the error of pure noise by 10 log10(16 / 15) dB."""


@dataclass
class ChannelFit:
    """Running sums per channel of one axis, float64 ``[C]``."""

    axis: int
    sums: npt.NDArray[Any] | None = None
    elements: int = 0
    usable: bool = field(default=True)

    def update(self, a: Array, b: Array) -> None:
        """Add one pair; tensors whose channels change in number, or that hold NaN, have no fit."""
        if not self.usable or a.shape != b.shape or a.ndim < 2 or not a.size:
            self.usable = self.usable and a.shape == b.shape and a.ndim >= 2
            return
        rows = [
            np.moveaxis(x, self.axis, 0).reshape(x.shape[self.axis], -1).astype(np.float64) for x in (a, b)
        ]
        sums = np.stack([np.einsum("ci,ci->c", rows[i], rows[j]) for i, j in ((0, 0), (0, 1), (1, 1))])
        if not np.isfinite(sums).all() or (self.sums is not None and self.sums.shape != sums.shape):
            self.usable = False
            return
        self.sums = sums if self.sums is None else self.sums + sums
        self.elements += a.size

    @property
    def sqnr_db(self) -> float:
        """What is left after the fit, in dB; -200 where there is no fit."""
        if not self.usable or self.sums is None:
            return -EXACT_DB
        if self.elements < _ELEMENTS_PER_CHANNEL * self.sums.shape[1]:
            return -EXACT_DB
        aa, ab, bb = self.sums
        explained = np.divide(ab**2, aa, out=np.zeros_like(ab), where=aa > 0)
        signal, noise = float(bb.sum()), float(np.maximum(bb - explained, 0.0).sum())
        if signal <= 0.0:
            return -EXACT_DB
        return EXACT_DB if noise <= 0.0 else min(EXACT_DB, 10.0 * math.log10(signal / noise))


def rescaled_db(fits: tuple[ChannelFit, ...], sqnr_db: float) -> float | None:
    """SQNR after the best fit, or None where the value is not rescaled."""
    best = max((fit.sqnr_db for fit in fits), default=-EXACT_DB)
    return best if sqnr_db < SUSPICIOUS_DB and best > sqnr_db + SURE_DB else None
