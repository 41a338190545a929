"""Scale and minimum of a group, both real numbers: ``x ~ scale * code - minimum``, as k-quants have them.

The search is that of llama.cpp's ``make_qkx2_quants`` in idea: try several numbers of levels across the range, fit a
line through the codes that each gives, keep the one with the least weighted squared error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.formats.weighting import weighted_sum
from qcompiler.numerics.formats.zero_search import line, slope

Float32 = npt.NDArray[np.float32]


class MinSearch:
    """The best scale and minimum so far of every group of a block."""

    def __init__(self, values: Float32, weights: Float32, largest: int) -> None:
        """``values [G, S, N]``; ``weights`` of squared errors broadcast against them; codes are ``0 .. largest``."""
        self.values, self.weights, self.largest = values, weights, largest
        self.low: Float32 = np.minimum(values.min(axis=1), 0)
        self.high: Float32 = values.max(axis=1)
        self.scale: Float32 = np.maximum(self.high - self.low, 0) / np.float32(largest)
        self.minimum: Float32 = -self.low
        self.best: Float32 = self._cost(self.scale, self.minimum)

    def run(self, extra_levels: Sequence[float]) -> tuple[Float32, Float32]:
        """Try ``largest + extra`` steps across the range for every ``extra``; where none is better, ``largest``."""
        span = np.maximum(self.high - self.low, np.float32(1e-30))
        above_low = self.values - self.low[:, np.newaxis]
        for extra in extra_levels:
            per_value = (np.float32(self.largest + extra) / span)[:, np.newaxis]
            level = np.clip(np.rint(above_low * per_value), 0, self.largest)
            scale, minimum = self._fitted(level)
            price = self._cost(scale, minimum)
            better = price < self.best
            np.copyto(self.best, price, where=better)
            np.copyto(self.scale, scale, where=better)
            np.copyto(self.minimum, minimum, where=better)
        return self.scale, self.minimum

    def _fitted(self, level: Float32) -> tuple[Float32, Float32]:
        """Line through the codes ``level``; the minimum is not below zero."""
        scale, shift = line(level, self.values, self.weights, self.scale)
        through_zero = slope(level, self.values, self.weights, self.scale)
        positive = shift > 0
        return np.where(positive, through_zero, scale), np.where(positive, np.float32(0), -shift)

    def _cost(self, scale: Float32, minimum: Float32) -> Float32:
        tall, low = scale[:, np.newaxis], minimum[:, np.newaxis]
        errors = self.values + low
        errors /= np.where(tall == 0, np.float32(np.inf), tall)
        np.rint(errors, out=errors)
        np.clip(errors, 0, self.largest, out=errors)
        errors *= tall
        errors -= low
        errors -= self.values
        return weighted_sum(np.square(errors, out=errors), self.weights)
