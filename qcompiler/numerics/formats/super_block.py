"""Fitting of super-blocks: scales and minima of sub-blocks that are integers times a float16 of the super-block.

Shapes: S super-blocks of P sub-blocks of B weights, in N columns.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from qcompiler.numerics.formats.base import Float32, Format, Search
from qcompiler.numerics.formats.half import half_above, half_nearest
from qcompiler.numerics.formats.min_search import MinSearch
from qcompiler.numerics.formats.scale_search import ScaleSearch

REFITS = 2
"""Rounds of fitting super-block values to codes, then codes to super-block values."""


@dataclass(frozen=True)
class Layout:
    """How a k-quant stores a super-block: bits of a code, weights of a sub-block, bits of a scale, with minimum."""

    bits: int
    sub_block: int
    scale_bits: int
    minimum: bool

    @property
    def largest(self) -> int:
        """Largest code."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """Code of zero where there is no minimum, else 0."""
        return 0 if self.minimum else 1 << (self.bits - 1)


@dataclass(frozen=True)
class SuperBlock:
    """Fitted super-blocks.

    Attributes:
        super_scale: ``[S, N]`` float32 that float16 holds.
        super_min: alike; zeros where the format has no minimum.
        scale_codes: ``[S, P, N]`` float32 whole numbers.
        min_codes: alike.
    """

    super_scale: Float32
    super_min: Float32
    scale_codes: Float32
    min_codes: Float32

    @property
    def scale(self) -> Float32:
        """Scales of the sub-blocks ``[S, P, N]``."""
        return self.super_scale[:, np.newaxis] * self.scale_codes

    @property
    def offset(self) -> Float32:
        """Minima of the sub-blocks ``[S, P, N]``."""
        return self.super_min[:, np.newaxis] * self.min_codes


def fit_super_block(fmt: Format, layout: Layout, values: Float32, cost: Float32 | None) -> SuperBlock:
    """Fit ``values [S, rows, N]``; ``cost`` of squared errors broadcasts against them, None fits without search.

    Args:
        fmt: rounds to the ladder of ``layout``.
        layout: how a super-block is stored.
        values: weights.
        cost: of squared errors.
    """
    sub_values, weights = _in_sub_blocks(values, cost, layout.sub_block)
    fitting = _Fitting(layout, sub_values, weights)
    plain = fitting.rounded(*_covering(layout, sub_values))
    if cost is None:
        return plain
    best = fitting.better(plain, fitting.rounded(*_searched(fmt, layout, sub_values, weights)))
    for _ in range(REFITS):
        best = fitting.better(best, fitting.refitted(best))
        best = fitting.with_better_codes(best)
    return best


def _in_sub_blocks(values: Float32, cost: Float32 | None, size: int) -> tuple[Float32, Float32]:
    """Values and costs as ``[S, P, B, N]``; a short last sub-block repeats its last weight at no cost."""
    supers, rows, columns = values.shape
    short = -rows % size
    weights = np.ones((1, rows, 1), np.float32) if cost is None else cost
    weights = np.broadcast_to(weights, (supers, rows, weights.shape[2]))
    if short:
        values = np.concatenate([values, np.repeat(values[:, -1:], short, axis=1)], axis=1)
        free = np.zeros((supers, short, weights.shape[2]), np.float32)
        weights = np.concatenate([weights, free], axis=1)
    shape = (supers, -1, size)
    return values.reshape(*shape, columns), weights.reshape(*shape, weights.shape[2])


def _covering(layout: Layout, values: Float32) -> tuple[Float32, Float32]:
    """Scales and minima ``[S, P, N]`` that clip nothing."""
    low, high = values.min(axis=2), values.max(axis=2)
    if layout.minimum:
        low = np.minimum(low, 0)
        return (high - low) / np.float32(layout.largest), -low
    extreme = np.where(-low >= high, low, high)
    return extreme / np.float32(-layout.middle), np.zeros_like(low)


def _searched(fmt: Format, layout: Layout, values: Float32, weights: Float32) -> tuple[Float32, Float32]:
    """Scales and minima ``[S, P, N]`` of least weighted squared error, not yet quantized themselves."""
    shape = (*values.shape[:2], values.shape[3])
    groups = values.reshape(-1, *values.shape[2:])
    costs = weights.reshape(-1, *weights.shape[2:])
    if layout.minimum:
        extra = np.linspace(-0.5, 2.0, 26) if layout.largest < 15 else np.linspace(-1.0, 1.0, 21)
        scale, minimum = MinSearch(groups, costs, layout.largest).run([float(levels) for levels in extra])
        return scale.reshape(shape), minimum.reshape(shape)
    start = _covering(layout, values)[0].reshape(-1, shape[2])
    ratios = [layout.middle / (layout.middle + 0.1 * extra) for extra in range(-9, 10) if extra]
    search = ScaleSearch(fmt, groups, costs, Search.MSE, np.asarray)
    return search.run(start, ratios).reshape(shape), np.zeros(shape, np.float32)


class _Fitting:
    """Values and costs of super-blocks ``[S, P, B, N]``, and how super-blocks compare on them."""

    def __init__(self, layout: Layout, values: Float32, weights: Float32) -> None:
        self.layout, self.values, self.weights = layout, values, weights
        reach = 1 << (layout.scale_bits - (0 if layout.minimum else 1))
        self.lowest, self.highest = (0, reach - 1) if layout.minimum else (-reach, reach - 1)

    def rounded(self, scale: Float32, minimum: Float32) -> SuperBlock:
        """Quantize scales and minima ``[S, P, N]``."""
        if self.layout.minimum:
            super_scale = half_above(scale.max(axis=1) / np.float32(self.highest))
        else:
            low, high = scale.min(axis=1), scale.max(axis=1)
            super_scale = half_above(np.where(-low >= high, low, high) / np.float32(self.lowest))
        super_min = half_above(minimum.max(axis=1) / np.float32(self.highest))
        return self._with_codes(super_scale, super_min, scale, minimum)

    def _with_codes(
        self, super_scale: Float32, super_min: Float32, scale: Float32, minimum: Float32
    ) -> SuperBlock:
        scale_codes = np.clip(np.rint(scale / super_scale[:, np.newaxis]), self.lowest, self.highest)
        min_codes = np.clip(np.rint(minimum / super_min[:, np.newaxis]), 0, self.highest)
        return SuperBlock(super_scale, super_min, scale_codes, min_codes)

    def levels(self, fitted: SuperBlock) -> Float32:
        """``code - middle`` of every value ``[S, P, B, N]``."""
        scale = fitted.scale[:, :, np.newaxis]
        level = self.values + fitted.offset[:, :, np.newaxis]
        level /= np.where(scale == 0, np.float32(np.inf), scale)
        np.rint(level, out=level)
        np.clip(level, -self.layout.middle, self.layout.largest - self.layout.middle, out=level)
        return level

    def cost(self, fitted: SuperBlock) -> Float32:
        """Weighted squared error of every sub-block ``[S, P, N]``."""
        errors = self.levels(fitted)
        errors *= fitted.scale[:, :, np.newaxis]
        errors -= fitted.offset[:, :, np.newaxis]
        errors -= self.values
        np.square(errors, out=errors)
        errors *= self.weights
        total: Float32 = errors.sum(axis=2)
        return total

    def better(self, best: SuperBlock, other: SuperBlock) -> SuperBlock:
        """Per super-block the one that costs less."""
        wins = self.cost(other).sum(axis=1) < self.cost(best).sum(axis=1)
        tall = wins[:, np.newaxis]
        return SuperBlock(
            np.where(wins, other.super_scale, best.super_scale),
            np.where(wins, other.super_min, best.super_min),
            np.where(tall, other.scale_codes, best.scale_codes),
            np.where(tall, other.min_codes, best.min_codes),
        )

    def refitted(self, fitted: SuperBlock) -> SuperBlock:
        """Super-block scale and minimum by least squares on all codes: ``x ~ d (s q) - m (c)``."""
        steps = self.levels(fitted) * fitted.scale_codes[:, :, np.newaxis]
        codes = fitted.min_codes[:, :, np.newaxis]
        weights = self.weights
        ss, sx = (weights * steps * steps).sum((1, 2)), (weights * steps * self.values).sum((1, 2))
        sm, mx = (weights * steps * codes).sum((1, 2)), (weights * codes * self.values).sum((1, 2))
        mm = (weights * codes * codes).sum((1, 2))
        determinant = ss * mm - sm * sm
        both = determinant > 1e-6 * ss * mm
        divisor = np.where(both, determinant, 1)
        alone = np.where(ss > 0, sx / np.where(ss > 0, ss, 1), fitted.super_scale)
        scale = np.where(both, (sx * mm - mx * sm) / divisor, alone)
        minimum = np.where(both, (sx * sm - mx * ss) / divisor, fitted.super_min)
        usable = np.isfinite(scale) & np.isfinite(minimum) & (scale * fitted.super_scale > 0) & (minimum >= 0)
        return replace(
            fitted,
            super_scale=np.where(usable, half_nearest(np.nan_to_num(scale)), fitted.super_scale),
            super_min=np.where(usable, half_nearest(np.nan_to_num(minimum)), fitted.super_min),
        )

    def with_better_codes(self, fitted: SuperBlock) -> SuperBlock:
        """Neighbouring scale and minimum codes where a sub-block costs less with them."""
        best, price = fitted, self.cost(fitted)
        for up in (-1, 0, 1):
            for more in (-1, 0, 1) if self.layout.minimum else (0,):
                trial = replace(
                    fitted,
                    scale_codes=np.clip(fitted.scale_codes + np.float32(up), self.lowest, self.highest),
                    min_codes=np.clip(fitted.min_codes + np.float32(more), 0, self.highest),
                )
                trial_price = self.cost(trial)
                wins = trial_price < price
                price = np.where(wins, trial_price, price)
                best = replace(
                    best,
                    scale_codes=np.where(wins, trial.scale_codes, best.scale_codes),
                    min_codes=np.where(wins, trial.min_codes, best.min_codes),
                )
        return best
