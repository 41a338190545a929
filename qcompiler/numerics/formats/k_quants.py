"""The k-quants of llama.cpp: super-blocks of 256 weights whose sub-blocks' scales are small integers themselves.

    q2_k, q4_k, q5_k:  w ~ (super_scale * scale_code) * code - super_min * min_code
    q3_k, q6_k:        w ~ (super_scale * scale_code) * (code - 2**(bits - 1)),  scale codes signed

| name | code | sub-block | scale and min codes | float16 | bits a weight |
|------|------|-----------|---------------------|---------|---------------|
| q2_k | 2    | 16        | 4 + 4               | 2       | 2.625         |
| q3_k | 3    | 16        | 6                   | 1       | 3.4375        |
| q4_k | 4    | 32        | 6 + 6               | 2       | 4.5           |
| q5_k | 5    | 32        | 6 + 6               | 2       | 5.5           |
| q6_k | 6    | 16        | 8                   | 1       | 6.5625        |

Layout of ggml's ``block_q*_K`` (ggml-common.h).  Where llama.cpp refuses rows that are not a multiple of 256, here the
last super-block is short: it has as many sub-blocks as it needs and its own float16 values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import OptionError
from qcompiler.numerics.formats.affine import Affine
from qcompiler.numerics.formats.base import Codes, Float32, Format, Grid, Search
from qcompiler.numerics.formats.blocks import Block, for_each, group_count, in_rows, split
from qcompiler.numerics.formats.half import half_above
from qcompiler.numerics.formats.scaled import largest_magnitude
from qcompiler.numerics.formats.super_block import Layout, fit_super_block
from qcompiler.numerics.formats.weighting import weights_of

SUPER_BLOCK = 256
SUPER_SCALE, SUPER_MIN, SCALE_CODES, MIN_CODES = "super_scale", "super_min", "scale_codes", "min_codes"


LAYOUTS: Mapping[str, Layout] = {
    "q2_k": Layout(2, 16, 4, minimum=True),
    "q3_k": Layout(3, 16, 6, minimum=False),
    "q4_k": Layout(4, 32, 6, minimum=True),
    "q5_k": Layout(5, 32, 6, minimum=True),
    "q6_k": Layout(6, 16, 8, minimum=False),
}


@dataclass(frozen=True)
class KQuant(Format):
    """One of ``LAYOUTS``.

    ``Grid.parts``, S = ceil(K / 256) and G = ceil(K / sub-block): ``super_scale`` float32 ``[S, N]`` that float16
    holds, ``scale_codes`` ``[G, N]`` uint8 (int8 where there is no minimum), and with minimum ``super_min`` and
    ``min_codes`` uint8 alike.  Without minimum a scale may be negative, so that the longer side of the ladder lies
    where the largest weight is.  A scale may be zero: then all weights of the sub-block are one value.
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in LAYOUTS:
            raise OptionError(f"k-quant {self.kind!r} is not known; use one of {', '.join(LAYOUTS)}")

    @property
    def layout(self) -> Layout:
        """How a super-block is stored."""
        return LAYOUTS[self.kind]

    @property
    def name(self) -> str:
        """``q4_k`` and so on."""
        return self.kind

    @property
    def group(self) -> int:
        """Weights of a sub-block: 16 or 32."""
        return self.layout.sub_block

    @property
    def code_bits(self) -> int:
        """2 to 6."""
        return self.layout.bits

    @property
    def span(self) -> int:
        """256: a super-block is fitted on its own."""
        return SUPER_BLOCK

    @property
    def largest(self) -> int:
        """Largest code."""
        return self.layout.largest

    @property
    def middle(self) -> int:
        """Code of zero where there is no minimum, else 0."""
        return self.layout.middle

    @property
    def levels(self) -> Float32:
        """``code - middle``."""
        return np.arange(self.largest + 1, dtype=np.float32) - np.float32(self.middle)

    def searches(self) -> Mapping[Search, str]:
        """All but hqq."""
        reason = "k-quants fit scales that are quantized themselves by least squares; use k_quant or mse"
        return {search: reason if search is Search.HQQ else "" for search in Search}

    def fit(
        self, weights: Float32, *, search: Search = Search.MINMAX, importance: Float32 | None = None
    ) -> Grid:
        """Sub-block scales and minima, then the super-block's, then both again on the codes that they give.

        Raises:
            OptionError: the search does not apply.
            UnsupportedError: a scale is above what float16 holds.
        """
        if reason := self.searches()[search]:
            raise OptionError(f"{self.name}: {reason}")
        rows, columns = weights.shape
        groups, supers = group_count(rows, self.group), group_count(rows, SUPER_BLOCK)
        parts = self._parts(groups, supers, columns)
        scale = np.empty((groups, columns), np.float32)
        offset = np.empty((groups, columns), np.float32) if self.layout.minimum else None

        def work(block: Block) -> None:
            values = in_rows(block.of(weights))
            rows_of_block = None if importance is None else block.of_rows(importance)
            cost = None if search is Search.MINMAX else weights_of(search, values, rows_of_block)
            found = fit_super_block(self, self.layout, values, cost)
            first = block.groups.start * SUPER_BLOCK // self.group
            where = (
                slice(first, first + found.scale_codes.shape[0] * found.scale_codes.shape[1]),
                block.columns,
            )
            scale[where] = flat(found.scale)
            parts[SCALE_CODES][where] = flat(found.scale_codes)
            parts[SUPER_SCALE][block.groups, block.columns] = found.super_scale
            if offset is not None:
                offset[where] = flat(found.offset)
                parts[MIN_CODES][where] = flat(found.min_codes)
                parts[SUPER_MIN][block.groups, block.columns] = found.super_min

        for_each(split(weights.shape, SUPER_BLOCK), work)
        return Grid(scale, offset, parts=parts)

    def _parts(self, groups: int, supers: int, columns: int) -> dict[str, npt.NDArray[np.generic]]:
        kind = np.uint8 if self.layout.minimum else np.int8
        parts: dict[str, npt.NDArray[np.generic]] = {
            SCALE_CODES: np.empty((groups, columns), kind),
            SUPER_SCALE: np.empty((supers, columns), np.float32),
        }
        if self.layout.minimum:
            parts[MIN_CODES] = np.empty((groups, columns), np.uint8)
            parts[SUPER_MIN] = np.empty((supers, columns), np.float32)
        return parts

    def codes_of(self, values: Float32, scale: Float32, offset: Float32 | None) -> Codes:
        """Round half to even, then clip; where the scale is zero the code of zero."""
        ladder = values.copy() if offset is None else values + offset
        ladder /= np.where(scale == 0, np.float32(np.inf), scale)
        np.rint(ladder, out=ladder)
        ladder += np.float32(self.middle)
        np.clip(ladder, 0, self.largest, out=ladder)
        return ladder.astype(np.uint8)

    def bits_per_weight(self, rows: int, columns: int) -> float:
        """Codes, scale and minimum codes, 16 bits for each super-block value; columns start at whole bytes."""
        each = 2 if self.layout.minimum else 1
        bits = rows * self.layout.bits
        bits += each * self.layout.scale_bits * group_count(rows, self.group)
        bits += each * 16 * group_count(rows, SUPER_BLOCK)
        return 8 * -(-bits // 8) / rows


def flat(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """``[S, P, N]`` of super-blocks and their sub-blocks to ``[S * P, N]``."""
    return values.reshape(-1, values.shape[2])


@dataclass(frozen=True)
class Q8Zero(Affine):
    """q8_0: symmetric int8 in groups of 32, the largest magnitude at code 127; no super-blocks; 8.5 bits a weight."""

    bits: int = 8
    group_size: int | None = 32
    symmetric: bool = True

    @property
    def name(self) -> str:
        """``q8_0``."""
        return "q8_0"

    def start(self, values: Float32) -> Float32:
        """``max |x| / 127``."""
        return half_above(largest_magnitude(values) / np.float32(127))
