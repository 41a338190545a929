"""Ternary weights of BitNet b1.58 (arXiv:2402.17764): -1, 0 or 1 times the mean magnitude of a group."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.formats.base import Codes, Float32
from qcompiler.numerics.formats.blocks import group_count
from qcompiler.numerics.formats.half import half_nearest
from qcompiler.numerics.formats.scaled import Scaled

RATIOS = tuple(float(ratio) for ratio in np.linspace(0.6, 2.4, 37))


@dataclass(frozen=True)
class Ternary(Scaled):
    """Codes 0, 1, 2 stand for -1, 0, 1; two bits each as stored.

    Attributes:
        group_size: rows that share a scale; None for all of a column.
    """

    group_size: int | None = None

    @property
    def name(self) -> str:
        """``ternary``."""
        return "ternary"

    @property
    def group(self) -> int | None:
        """As given."""
        return self.group_size

    @property
    def code_bits(self) -> int:
        """2, as stored; the codes hold 1.58."""
        return 2

    @property
    def levels(self) -> Float32:
        """-1, 0, 1."""
        return _levels()

    @property
    def ratios(self) -> tuple[float, ...]:
        """The best scale is mostly above the mean magnitude: what rounds to zero does not count."""
        return RATIOS

    def start(self, values: Float32) -> Float32:
        """The mean magnitude."""
        return half_nearest(np.abs(values).mean(axis=1))

    def codes_of(self, values: Float32, scale: Float32, offset: Float32 | None) -> Codes:
        """Round half to even, then clip."""
        ladder = values / scale
        np.rint(ladder, out=ladder)
        np.clip(ladder, -1, 1, out=ladder)
        ladder += 1
        return ladder.astype(np.uint8)

    def signed(self, codes: Codes) -> npt.NDArray[np.int8]:
        """-1, 0, 1 as int8."""
        return codes.astype(np.int8) - np.int8(1)

    def bits_per_weight(self, rows: int, columns: int) -> float:
        """2 bits a weight and 16 a scale."""
        codes = -(-2 * rows * columns // 8)
        return 8 * (codes + 2 * group_count(rows, self.group_size) * columns) / (rows * columns)


@cache
def _levels() -> Float32:
    levels = np.array([-1, 0, 1], np.float32)
    levels.setflags(write=False)
    return levels
