"""nf4, fp4 and fp8: levels out of a table, a scale per group.

w[k, n] ~ scale[g, n] * levels[code[k, n]]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import ml_dtypes
import numpy as np
import numpy.typing as npt

from qcompiler.errors import OptionError
from qcompiler.numerics.formats.base import Codes, Float32, Grid, Search
from qcompiler.numerics.formats.blocks import group_count
from qcompiler.numerics.formats.double import double_quantize, double_quantized_bits
from qcompiler.numerics.formats.rounding import Rounding, nearest, rounding
from qcompiler.numerics.formats.scaled import Scaled, covering

E2M1 = tuple(sign * value for sign in (1.0, -1.0) for value in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0))
"""The 4-bit float of the OCP Microscaling specification 1.0, by code: sign, 2 bits of exponent, 1 of mantissa."""
NF4 = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)
"""Quantiles of the normal distribution with an exact zero: arXiv:2305.14314, appendix E."""
TABLES: Mapping[str, tuple[float, ...]] = {"nf4": NF4, "fp4": tuple(value / 6.0 for value in E2M1)}
E4M3_LARGEST = 448.0
E8M0_BIAS = 127


@cache
def table_levels(name: str) -> Float32:
    """Levels of ``nf4``, ``fp4`` (e2m1 over 6, so that the largest is 1) or ``e2m1``; not to be written to."""
    levels = np.array(E2M1 if name == "e2m1" else TABLES[name], np.float32)
    levels.setflags(write=False)
    return levels


@cache
def table_rounding(name: str) -> Rounding:
    """How to round to ``table_levels(name)``."""
    return rounding(table_levels(name))


@dataclass(frozen=True)
class Table(Scaled):
    """nf4 or fp4 in blocks, scaled by their largest magnitude (arXiv:2305.14314).

    fp4 is e2m1 as the paper names it; the kernels of bitsandbytes hold 0.0052 instead of 0.083 for its first level.

    Attributes:
        table: ``nf4`` or ``fp4``.
        group_size: rows that share a scale; None for all of a column.
        double_quantized: scales in 8 bits, see ``double.py``.
    """

    table: str
    group_size: int | None = 64
    double_quantized: bool = False

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise OptionError(f"table {self.table!r} is not known; use one of {', '.join(TABLES)}")

    @property
    def name(self) -> str:
        """``nf4`` or ``fp4``."""
        return self.table

    @property
    def group(self) -> int | None:
        """As given."""
        return self.group_size

    @property
    def code_bits(self) -> int:
        """4."""
        return 4

    @property
    def levels(self) -> Float32:
        """16 levels in [-1, 1]."""
        return table_levels(self.table)

    def start(self, values: Float32) -> Float32:
        """The largest magnitude."""
        return covering(values, 1.0)

    def fit(
        self, weights: Float32, *, search: Search = Search.MINMAX, importance: Float32 | None = None
    ) -> Grid:
        """As ``Scaled.fit``; double quantized, ``parts`` are those of :func:`double_quantize`.

        Rounding scales can undo what a search gained: a row of groups, which shares its scales' mean, keeps the
        scales of MINMAX where those cost less once rounded.
        """
        scale = self.scales(weights, search, importance)
        if not self.double_quantized:
            return Grid(scale)
        if search is not Search.MINMAX:
            plain = self.scales(weights, Search.MINMAX, None)
            costs = [
                self.costs(weights, double_quantize(each)[0], search, importance).sum(axis=1, keepdims=True)
                for each in (scale, plain)
            ]
            scale = np.where(costs[0] <= costs[1], scale, plain)
        return Grid(*_doubled(scale))

    def codes_of(self, values: Float32, scale: Float32, offset: Float32 | None) -> Codes:
        """Nearest level; half-way the larger one."""
        return nearest(values / scale, table_rounding(self.table))

    def bits_per_weight(self, rows: int, columns: int) -> float:
        """4 bits a weight and 16 a scale, or what double quantization takes."""
        groups = group_count(rows, self.group_size)
        scales = double_quantized_bits(groups, columns) if self.double_quantized else 16 * groups * columns
        return whole_bytes(4 * rows * columns, scales) / (rows * columns)


def _doubled(
    scale: Float32,
) -> tuple[Float32, None, None, Mapping[str, npt.NDArray[np.generic]]]:
    stored, parts = double_quantize(scale)
    return stored, None, None, parts


@dataclass(frozen=True)
class Float8(Scaled):
    """fp8 e4m3fn (ONNX FLOAT8E4M3FN): no infinity, largest 448; codes are the bytes.

    Attributes:
        group_size: rows that share a scale; None for all of a column.
    """

    group_size: int | None = None

    @property
    def name(self) -> str:
        """``fp8``."""
        return "fp8"

    @property
    def group(self) -> int | None:
        """As given."""
        return self.group_size

    @property
    def code_bits(self) -> int:
        """8."""
        return 8

    @property
    def levels(self) -> Float32:
        """By byte; the two codes of NaN, which are never given, stand as 448 and -448."""
        return float8_levels()

    def start(self, values: Float32) -> Float32:
        """The largest magnitude becomes 448."""
        return covering(values, E4M3_LARGEST)

    def codes_of(self, values: Float32, scale: Float32, offset: Float32 | None) -> Codes:
        """Round half to even, saturate at 448."""
        scaled = values / scale
        np.clip(scaled, -E4M3_LARGEST, E4M3_LARGEST, out=scaled)
        codes: Codes = scaled.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
        return codes

    def bits_per_weight(self, rows: int, columns: int) -> float:
        """8 bits a weight and 16 a scale."""
        return 8 + 16 * group_count(rows, self.group_size) / rows


@cache
def float8_levels() -> Float32:
    """e4m3fn by byte, NaN replaced by the largest of its sign; not to be written to."""
    levels: Float32 = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    levels[0x7F], levels[0xFF] = E4M3_LARGEST, -E4M3_LARGEST
    levels.setflags(write=False)
    return levels


def whole_bytes(code_bits: int, scale_bits: int) -> int:
    """Bits of both in whole bytes."""
    return 8 * (-(-code_bits // 8) + -(-scale_bits // 8))
