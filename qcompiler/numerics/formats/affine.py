"""Integers of 2, 3, 4 or 8 bits with a scale, and where asymmetric a zero point, per group or per column.

    symmetric:   w ~ scale * (code - 2**(bits - 1)),  stored signed: ``signed(codes)``
    asymmetric:  w ~ scale * (code - zero_point),     stored unsigned

Symmetric scales of 2 to 4 bits have either sign: the ladder has a level more on its negative side, and a negative scale
turns that side to where the weight of the largest magnitude is, as llama.cpp's Q4_0 does (``quantize_row_q4_0_ref`` in
ggml-quants.c).  int8 has 127 levels on its shorter side and a positive scale, which every kernel for int8 expects.

``scale`` is float32 that float16 holds exactly, so that with codes of at most 8 bits every product and difference
above is exact in float32, and the graph's DequantizeLinear gives the same bits as ``decode``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import OptionError
from qcompiler.numerics.formats.base import Codes, Float32, Format, Grid, Search
from qcompiler.numerics.formats.blocks import Block, for_each, group_count, in_rows, split
from qcompiler.numerics.formats.half import half_above, half_nearest
from qcompiler.numerics.formats.scale_search import ScaleSearch
from qcompiler.numerics.formats.weighting import weights_of
from qcompiler.numerics.formats.zero_search import ZeroSearch

SCALE_BITS = 16
WIDTHS = (2, 3, 4, 8)


@dataclass(frozen=True)
class Affine(Format):
    """int8, int4, int3 or int2 of weights alone.

    Attributes:
        bits: 2, 3, 4 or 8.
        group_size: rows that share a scale; None for all of a column.
        symmetric: without zero point.

    Raises:
        OptionError: bits or group size are not possible.
    """

    bits: int
    group_size: int | None = 32
    symmetric: bool = False

    def __post_init__(self) -> None:
        if self.bits not in WIDTHS:
            raise OptionError(f"integers of {self.bits} bits are not known; use 2, 3, 4 or 8")
        if self.group_size is not None and self.group_size < 1:
            raise OptionError(f"group of {self.group_size} weights; use 16 to 256, or none for per channel")

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
    def largest(self) -> int:
        """Largest code; the smallest is 0."""
        return (1 << self.bits) - 1

    @property
    def middle(self) -> int:
        """Code of zero where symmetric."""
        return 1 << (self.bits - 1)

    @property
    def levels(self) -> Float32:
        """``0 .. 2**bits - 1``, less the middle where symmetric."""
        codes = np.arange(self.largest + 1, dtype=np.float32)
        return codes - np.float32(self.middle) if self.symmetric else codes

    def searches(self) -> Mapping[Search, str]:
        """All of them."""
        return dict.fromkeys(Search, "")

    def fit(
        self, weights: Float32, *, search: Search = Search.MINMAX, importance: Float32 | None = None
    ) -> Grid:
        """Scale, and zero point where asymmetric, of every group.

        MINMAX, asymmetric and int8: covers every weight and zero; scales are rounded up, so that nothing is clipped.
        MINMAX, symmetric: the largest magnitude takes the lowest code, ``-2**(bits - 1)``; weights of the other sign
        that are nearly as large err by up to a step, the others by half a step.
        MSE, HQQ and K_QUANT start there and keep per group what costs less: the (weighted) squared error, for HQQ
        with zero point the magnitude of the error, for K_QUANT the squared error weighted as llama.cpp does.  In 2
        and 3 bits symmetric they try the other sign too (1 % and 0.1 % less squared error on a small Llama's
        weights; in 4 bits it is never taken).

        Raises:
            UnsupportedError: a scale is above what float16 holds.
        """
        shape = (group_count(weights.shape[0], self.group_size), weights.shape[1])
        scale = np.empty(shape, np.float32)
        zero = None if self.symmetric else np.empty(shape, np.uint8)

        def work(block: Block) -> None:
            values = in_rows(block.of(weights))
            rows = None if importance is None else block.of_rows(importance)
            found, point = self._fit_block(values, search, rows)
            scale[block.groups, block.columns] = found
            if zero is not None and point is not None:
                zero[block.groups, block.columns] = point

        for_each(split(weights.shape, self.group_size), work)
        return Grid(scale, None if zero is None else scale * zero, zero)

    def _fit_block(
        self, values: Float32, search: Search, importance: Float32 | None
    ) -> tuple[Float32, Float32 | None]:
        if self.symmetric:
            start = self.start(values)
            if search is Search.MINMAX:
                return start, None
            cost = weights_of(search, values, importance)
            scales = ScaleSearch(self, values, cost, search, half_nearest)
            turn = self.either_sign and self.bits < 4
            return scales.run(start, self._ratios(), either_sign=turn), None
        low, high = np.minimum(values.min(axis=1), 0), np.maximum(values.max(axis=1), 0)
        if search is Search.MINMAX:
            step = half_above((high - low) / np.float32(self.largest))
            return step, np.clip(np.rint(-low / step), 0, self.largest)
        cost = weights_of(search, values, importance)
        return ZeroSearch(values, cost, search, self.largest).run(low, high, self._ratios())

    @property
    def either_sign(self) -> bool:
        """Whether scales may be negative."""
        return self.symmetric and self.bits < 8

    def start(self, values: Float32) -> Float32:
        """Scale ``[G, N]`` of ``values [G, S, N]`` without search, where symmetric."""
        low, high = values.min(axis=1), values.max(axis=1)
        if self.either_sign:
            return half_above(np.where(-low >= high, low, high) / np.float32(-self.middle))
        below, above = low / np.float32(-self.middle), high / np.float32(self.middle - 1)
        return half_above(np.maximum(np.maximum(below, above), 0))

    def _ratios(self) -> list[float]:
        """Multiples of the first scale to try: fewer levels gain from clipping more."""
        lowest, count = {2: (0.3, 29), 3: (0.5, 26), 4: (0.6, 21), 8: (0.97, 13)}[self.bits]
        ratios = np.linspace(1.0, lowest, count)
        if self.either_sign:  # up to where the shorter side of the ladder is long enough
            covering = self.middle / (self.middle - 1)
            ratios = np.concatenate([ratios, np.linspace(1.0, covering, 8)[1:]])
        return [float(ratio) for ratio in ratios]

    def codes_of(self, values: Float32, scale: Float32, offset: Float32 | None) -> Codes:
        """Round half to even, then clip to the ladder."""
        if offset is None:
            ladder = values / scale
            np.rint(ladder, out=ladder)
            ladder += np.float32(self.middle)
        else:
            ladder = values + offset
            ladder /= scale
            np.rint(ladder, out=ladder)
        np.clip(ladder, 0, self.largest, out=ladder)
        return ladder.astype(np.uint8)

    def values_of(self, codes: Codes, scale: Float32, offset: Float32 | None) -> Float32:
        """``scale * code - offset``, or ``scale * (code - middle)``."""
        if offset is None:
            return self.signed(codes) * scale
        values = codes * scale
        values -= offset
        return values

    def signed(self, codes: Codes) -> npt.NDArray[np.int8]:
        """Symmetric codes as the graph stores them: ``-2**(bits - 1) .. 2**(bits - 1) - 1``."""
        shifted: npt.NDArray[np.int8] = (codes ^ np.uint8(self.middle)).view(np.int8)
        if self.bits < 8:
            spare = np.int8(8 - self.bits)
            shifted = (shifted << spare) >> spare
        return shifted

    def bits_per_weight(self, rows: int, columns: int) -> float:
        """Codes, 16 bits a scale and ``bits`` a zero point, each rounded up to whole bytes."""
        groups = group_count(rows, self.group_size) * columns
        whole = _bytes(rows * columns * self.bits) + _bytes(groups * SCALE_BITS)
        whole += 0 if self.symmetric else _bytes(groups * self.bits)
        return 8 * whole / (rows * columns)


def _bytes(bits: int) -> int:
    return -(-bits // 8)
