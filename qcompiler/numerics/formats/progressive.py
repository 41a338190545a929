"""Codes of 3 to 6 bits whose groups are small integers times each other: int8 weights that are stored narrow.

    w[k, n] ~ scale[n] * code8[k, n],   code8[k, n] = ratio[g, n] * (code[k, n] - zero[g, n]),   g = k // group

Progressive group quantization of QServe (arXiv:2405.04532, section 4.1): the first level is int8 with one scale a
column, the second stores the int8 codes in fewer bits with an integer scale and zero point per group.  What is
multiplied is plain int8, so that every kernel for int8 runs it at its own speed; only the file is narrow.

QServe rounds to int8 first and quantizes those codes.  Here the weights themselves are rounded to the levels that both
steps leave, once, and scales, ratios and zero points are searched together.  ``scale`` is float32 that float16 holds
exactly: ``scale * code8`` is then exact in float32, and equal to what ``decode`` gives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import OptionError
from qcompiler.numerics.formats.base import Codes, Float32, Format, Grid, Search
from qcompiler.numerics.formats.blocks import Block, for_each, group_count, split
from qcompiler.numerics.formats.half import half_above, half_nearest
from qcompiler.numerics.formats.weighting import cost, weights_of
from qcompiler.numerics.formats.zero_search import ZeroSearch

WIDTHS = (3, 4, 5, 6)
SCALE_BITS = 32
RATIO_BITS = 4
LARGEST_RATIO = 15
RATIO, CHANNEL = "ratio", "channel"
"""Parts of the grid: ``ratio`` uint8 ``[G, N]``, ``channel`` float32 ``[1, N]``."""

_CLIPS = {3: (0.5, 16), 4: (0.6, 13), 5: (0.75, 9), 6: (0.85, 7)}
"""Smallest share of a group's range to try, and how many up to all of it."""
_STEPS = tuple(float(step) for step in np.linspace(0.8, 1.2, 9))
"""Multiples of a column's first scale to try."""


@dataclass(frozen=True)
class Progressive(Format):
    """int3 to int6 in the file, int8 in the kernel.

    Attributes:
        bits: of a stored code.
        group_size: rows that share a ratio and a zero point; None for all of a column.
        largest_code: bound of the int8 codes' magnitude: 127, or 63 for targets of reduced range.

    Raises:
        OptionError: bits or group size are not possible.
    """

    bits: int
    group_size: int | None = 32
    largest_code: int = 127

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS:
            raise OptionError(f"weights of {self.bits} bits behind int8 are not known; use 3, 4, 5 or 6")
        if self.group_size is not None and self.group_size < 1:
            raise OptionError(f"group of {self.group_size} weights; use 16 to 256, or 0 for per channel")
        if self.largest_code < self.largest:
            raise OptionError(
                f"{self.name} does not fit codes of at most {self.largest_code}; use fewer bits"
            )

    @property
    def name(self) -> str:
        """``int4`` and so on, whatever the group."""
        return f"int{self.bits}"

    @property
    def group(self) -> int | None:
        """As given."""
        return self.group_size

    @property
    def code_bits(self) -> int:
        """As given."""
        return self.bits

    @property
    def span(self) -> None:
        """None: a column's scale is fitted to all of its groups."""
        return

    @property
    def largest(self) -> int:
        """Largest stored code; the smallest is 0."""
        return (1 << self.bits) - 1

    @property
    def levels(self) -> Float32:
        """``0 .. 2**bits - 1``."""
        return np.arange(self.largest + 1, dtype=np.float32)

    def searches(self) -> Mapping[Search, str]:
        """From the extremes, or for least squared error."""
        why = "the integer ratios between groups are searched for least squared error"
        return {Search.MINMAX: "", Search.MSE: "", Search.HQQ: why, Search.K_QUANT: why}

    def fit(
        self, weights: Float32, *, search: Search = Search.MINMAX, importance: Float32 | None = None
    ) -> Grid:
        """Scale of every column, ratio and zero point of every group.

        MINMAX covers every weight and zero: nothing is clipped.  MSE tries clipped groups, columns' scales around the
        one that just holds the widest group, and both neighbouring ratios with three zero points each, and keeps
        per column what costs least.

        Raises:
            UnsupportedError: a scale is above what float16 holds.
        """
        rows, columns = weights.shape
        shape = (group_count(rows, self.group_size), columns)
        ratio, zero = np.ones(shape, np.uint8), np.zeros(shape, np.uint8)
        channel = np.ones((1, columns), np.float32)

        def work(block: Block) -> None:
            part = slice(block.columns.start, block.columns.stop)
            values = self._grouped(weights[:, part])
            cares = None if importance is None else self._grouped(importance[:, None])
            found = _Fit(self, values, weights_of(search, values, cares), search).run()
            channel[0, part], ratio[:, part], zero[:, part] = found

        for_each(list(split((rows, columns), None)), work)
        scale = (channel * ratio).astype(np.float32)
        return Grid(scale, scale * zero, zero, {RATIO: ratio, CHANNEL: channel})

    def largest_ratio(self, zero: Float32) -> Float32:
        """Largest ratio at which every code of a group with zero point ``zero`` stays in range."""
        reach = np.maximum(zero, self.largest - zero)
        limit: Float32 = np.minimum(self.largest_code // reach, LARGEST_RATIO).astype(np.float32)
        return limit

    def codes_of(self, values: Float32, scale: Float32, offset: Float32 | None) -> Codes:
        """Round half to even, then clip to the ladder."""
        ladder = values / scale if offset is None else (values + offset) / scale
        np.rint(ladder, out=ladder)
        np.clip(ladder, 0, self.largest, out=ladder)
        return ladder.astype(np.uint8)

    def wide_codes(self, codes: Codes, grid: Grid) -> npt.NDArray[np.int8]:
        """What the kernel multiplies: int8 codes ``[K, N]`` in ``[-largest_code, largest_code]``."""
        group = np.arange(len(codes)) // (self.group_size or len(codes) or 1)
        ratio = np.asarray(grid.parts[RATIO], np.int16)
        if grid.zero_point is None:
            raise AssertionError("a progressive grid has zero points")
        wide: npt.NDArray[np.int8] = codes.astype(np.int16) - grid.zero_point.astype(np.int16)[group]
        return (wide * ratio[group]).astype(np.int8)

    def bits_per_weight(self, rows: int, columns: int) -> float:
        """Codes in whole groups, zero points in 4 or 8 bits, ratios in 4, and 32 bits a column for its scale."""
        groups = group_count(rows, self.group_size)
        padded = rows if self.group_size is None else groups * self.group_size
        each = (4 if self.bits <= 4 else 8) + (RATIO_BITS if groups > 1 else 0)
        total = columns * (padded * self.bits + groups * each + SCALE_BITS)
        return total / (rows * columns)

    def _grouped(self, matrix: Float32) -> Float32:
        """``[G, S, n]`` of ``matrix [K, n]``; the last group is filled with zeros."""
        rows, columns = matrix.shape
        size = self.group_size or rows
        groups = group_count(rows, self.group_size)
        if groups * size != rows:
            padded = np.zeros((groups * size, columns), np.float32)
            padded[:rows] = matrix
            matrix = padded
        return np.ascontiguousarray(matrix.reshape(groups, size, columns), np.float32)


class _Fit:
    """The best scale, ratios and zero points so far of some columns."""

    def __init__(self, fmt: Progressive, values: Float32, weights: Float32, search: Search) -> None:
        """``values [G, S, n]``; ``weights`` of the errors broadcast against them."""
        self.fmt, self.values, self.weights, self.search = fmt, values, weights, search
        groups, _, columns = values.shape
        self.channel: Float32 = np.ones(columns, np.float32)
        self.ratio: Float32 = np.ones((groups, columns), np.float32)
        self.zero: Float32 = np.zeros((groups, columns), np.float32)
        self.best: Float32 = np.full(columns, np.inf, np.float32)

    def run(self) -> tuple[Float32, Float32, Float32]:
        """Scale ``[n]``, ratio and zero point ``[G, n]``."""
        low, high = np.minimum(self.values.min(axis=1), 0), np.maximum(self.values.max(axis=1), 0)
        step = half_above((high - low) / np.float32(self.fmt.largest))
        zero = np.clip(np.rint(-low / step), 0, self.fmt.largest)
        self._covering(step, low, high)
        if self.search is not Search.MINMAX:
            search = ZeroSearch(self.values, self.weights, self.search, self.fmt.largest)
            step, zero = search.run(low, high, np.linspace(1.0, *_CLIPS[self.fmt.bits]).tolist())
            self._around(step, zero, _STEPS)
        return self.channel, self.ratio, self.zero

    def _covering(self, step: Float32, low: Float32, high: Float32) -> None:
        """The smallest scale with ratios and zero points that clip no weight."""
        channel = half_above(np.maximum(-low, high).max(axis=0) / np.float32(self.fmt.largest_code))
        if len(step) == 1:
            channel = np.maximum(channel, step[0])
        for _ in range(64):
            ratio = np.maximum(np.ceil(step / channel), 1)
            zero = np.clip(np.rint(-low / (ratio * channel)), 0, self.fmt.largest)
            short = (ratio > self.fmt.largest_ratio(zero)).any(axis=0)
            if not short.any():
                break
            channel = np.where(short, half_above(channel * np.float32(1.05)), channel)
        self._offer(channel, np.minimum(ratio, self.fmt.largest_ratio(zero)), zero)

    def _around(self, step: Float32, zero: Float32, factors: Sequence[float]) -> None:
        """Offer scales around the one at which the widest group just fits."""
        fits = np.ones_like(step) if len(step) == 1 else self.fmt.largest_ratio(zero)
        start = (step / fits).max(axis=0)
        for factor in factors:
            channel = half_nearest(start * np.float32(factor))
            self._offer(channel, *self._ratios(step, zero, channel))

    def _ratios(self, step: Float32, zero: Float32, channel: Float32) -> tuple[Float32, Float32]:
        """Per group the cheapest of both ratios next to ``step / channel`` and three zero points each."""
        best = np.full(step.shape, np.inf, np.float32)
        ratio, points = np.ones_like(step), np.zeros_like(step)
        near = (ratio,) if len(step) == 1 else (np.floor(step / channel), np.ceil(step / channel))
        for whole in near:
            for shift in (0, -1, 1):
                moved = zero * step / (np.maximum(whole, 1) * channel) if shift else zero
                point = np.clip(np.rint(moved) + np.float32(shift), 0, self.fmt.largest)
                tried = np.clip(whole, 1, self.fmt.largest_ratio(point))
                price = self._price(tried * channel, point)
                better = price < best
                best = np.where(better, price, best)
                ratio, points = np.where(better, tried, ratio), np.where(better, point, points)
        return ratio, points

    def _offer(self, channel: Float32, ratio: Float32, zero: Float32) -> None:
        """Take a scale with its ratios and zero points in the columns where they cost less."""
        price = self._price(ratio * channel, zero).sum(axis=0)
        better = price < self.best
        self.best = np.where(better, price, self.best)
        self.channel = np.where(better, channel, self.channel)
        self.ratio, self.zero = np.where(better, ratio, self.ratio), np.where(better, zero, self.zero)

    def _price(self, scale: Float32, zero: Float32) -> Float32:
        """What the groups ``[G, n]`` cost."""
        tall, point = scale[:, np.newaxis], zero[:, np.newaxis]
        errors = self.values / tall
        errors += point
        np.rint(errors, out=errors)
        np.clip(errors, 0, self.fmt.largest, out=errors)
        errors -= point
        errors *= tall
        errors -= self.values
        return cost(self.search, errors, self.weights)
