"""Scale and integer zero point of asymmetric integers: tried, fitted, and kept per group where they cost less."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.formats.base import Search
from qcompiler.numerics.formats.half import half_above, half_nearest
from qcompiler.numerics.formats.scale_search import BETA, HALF_QUADRATIC_STEPS, KAPPA, REFITS
from qcompiler.numerics.formats.weighting import cost, shrunk, weighted_sum

Float32 = npt.NDArray[np.float32]


class ZeroSearch:
    """The best scale and zero point so far of every group of a block."""

    def __init__(self, values: Float32, weights: Float32, search: Search, largest: int) -> None:
        """``values [G, S, N]``; ``weights`` of the errors broadcast against them; codes are ``0 .. largest``."""
        self.values, self.weights, self.search, self.largest = values, weights, search, largest
        shape = (values.shape[0], values.shape[2])
        self.scale: Float32 = np.ones(shape, np.float32)
        self.zero: Float32 = np.zeros(shape, np.float32)
        self.best: Float32 = np.full(shape, np.inf, np.float32)

    def run(self, low: Float32, high: Float32, ratios: Sequence[float]) -> tuple[Float32, Float32]:
        """Search from the range ``low .. high [G, N]`` around zero, tried first: the result is never worse."""
        start = half_above((high - low) / np.float32(self.largest))
        self.offer(start, -low / start)
        if self.search is Search.HQQ:
            self._half_quadratic(start, -low / start)
        else:
            self._clipped(start, low, ratios)
        for _ in range(REFITS):
            self._refit()
        return self.scale, self.zero

    def _clipped(self, start: Float32, low: Float32, ratios: Sequence[float]) -> None:
        for ratio in ratios:
            scale = half_nearest(start * np.float32(ratio))
            ideal = -low * np.float32(ratio) / scale
            for shift in (0, -1, 1):
                self.offer(scale, ideal + np.float32(shift))

    def offer(self, scale: Float32, zero: Float32) -> None:
        """Take ``scale`` with the nearest possible zero point in the groups where they cost less."""
        whole = np.clip(np.rint(zero), 0, self.largest)
        errors = self._levels(scale, whole)
        errors *= scale[:, np.newaxis]
        errors -= self.values
        price = cost(self.search, errors, self.weights)
        better = price < self.best
        np.copyto(self.best, price, where=better)
        np.copyto(self.scale, scale, where=better)
        np.copyto(self.zero, whole, where=better)

    def _levels(self, scale: Float32, zero: Float32) -> Float32:
        """``code - zero`` of every value; ``zero`` need not be whole."""
        tall = zero[:, np.newaxis]
        level = self.values / scale[:, np.newaxis]
        level += tall
        np.rint(level, out=level)
        np.clip(level, 0, self.largest, out=level)
        level -= tall
        return level

    def _refit(self) -> None:
        """Offer the least-squares line through the best codes, and the least-squares scale at the best zero."""
        level = self._levels(self.scale, self.zero)
        scale, shift = line(level, self.values, self.weights, self.scale)
        zero = self.zero - shift / scale
        for move in (0, -1, 1):
            whole = np.clip(np.rint(zero) + np.float32(move), 0, self.largest)
            at_zero = self._levels(scale, whole)
            self.offer(half_nearest(slope(at_zero, self.values, self.weights, scale)), whole)
        self.offer(half_nearest(slope(level, self.values, self.weights, self.scale)), self.zero)

    def _half_quadratic(self, scale: Float32, zero: Float32) -> None:
        """HQQ's steps for scale and zero point, which is offered rounded to a whole number at every step."""
        beta = BETA
        for _ in range(HALF_QUADRATIC_STEPS):
            level = self._levels(scale, zero)
            tall = scale[:, np.newaxis]
            target = self.values - shrunk(self.values / tall - level, beta) * tall
            scale, shift = line(level, target, self.weights, scale)
            zero = np.clip(zero - shift / scale, 0, self.largest)
            self.offer(half_nearest(scale), zero)
            beta *= KAPPA


def slope(level: Float32, target: Float32, weights: Float32, fallback: Float32) -> Float32:
    """``s`` that minimizes ``sum w (target - s level)^2`` per group, ``fallback`` where there is no positive one."""
    above = weighted_sum(level * target, weights)
    below = weighted_sum(np.square(level), weights)
    return _ratio(above, below, fallback)


def line(level: Float32, target: Float32, weights: Float32, fallback: Float32) -> tuple[Float32, Float32]:
    """``s`` and ``t`` that minimize ``sum w (target - s level - t)^2`` per group."""
    total: Float32 = np.maximum(weighted_sum(np.ones_like(level), weights), np.float32(1e-30))
    middle: Float32 = weighted_sum(level.copy(), weights) / total
    centre: Float32 = weighted_sum(target.copy(), weights) / total
    slant = slope(level - middle[:, np.newaxis], target - centre[:, np.newaxis], weights, fallback)
    return slant, centre - slant * middle


def _ratio(above: Float32, below: Float32, fallback: Float32) -> Float32:
    usable = (below > 0) & (above > 0) & np.isfinite(above) & np.isfinite(below)
    ratio = np.divide(above, below, where=usable, out=np.ones_like(above))
    return np.where(usable & np.isfinite(ratio), ratio, fallback)
