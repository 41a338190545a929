"""mxfp4 and nvfp4: the 4-bit float e2m1 in small groups whose scales are floats of 8 bits.

w[k, n] ~ scale[g, n] * levels[code[k, n]]
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import numpy.typing as npt

from qcompiler.errors import UnsupportedError
from qcompiler.numerics.formats.base import Codes, Float32, Grid, Search
from qcompiler.numerics.formats.blocks import group_count
from qcompiler.numerics.formats.rounding import nearest
from qcompiler.numerics.formats.scaled import Scaled, largest_magnitude
from qcompiler.numerics.formats.table import (
    E4M3_LARGEST,
    E8M0_BIAS,
    float8_levels,
    table_levels,
    table_rounding,
    whole_bytes,
)

E4M3_SMALLEST = 2.0**-9
MX_GROUP, NV_GROUP = 32, 16


class _E2M1(Scaled):
    """What mxfp4 and nvfp4 share: the e2m1 ladder at its own size."""

    @property
    def code_bits(self) -> int:
        """4."""
        return 4

    @property
    def levels(self) -> Float32:
        """0, 0.5 .. 6 and their negatives, by code."""
        return table_levels("e2m1")

    def codes_of(self, values: Float32, scale: Float32, offset: Float32 | None) -> Codes:
        """Nearest level; half-way the larger one."""
        return nearest(values / scale, table_rounding("e2m1"))


@dataclass(frozen=True)
class MxFp4(_E2M1):
    """MXFP4 of the OCP Microscaling specification 1.0: e2m1, groups of 32, scales that are powers of two (e8m0)."""

    @property
    def name(self) -> str:
        """``mxfp4``."""
        return "mxfp4"

    @property
    def group(self) -> int:
        """32."""
        return MX_GROUP

    @property
    def ratios(self) -> tuple[float, ...]:
        """Neighbouring powers of two."""
        return (0.5, 2.0)

    def start(self, values: Float32) -> Float32:
        """``2 ** (floor(log2(max |x|)) - 2)`` as the specification has it: up to a quarter is clipped."""
        return self._power(np.frexp(largest_magnitude(values))[1] - 3)

    def store(self, scale: Float32) -> Float32:
        """Nearest power of two by logarithm."""
        return self._power(np.rint(np.log2(scale)).astype(np.int32))

    def _power(self, exponent: npt.NDArray[np.int32]) -> Float32:
        result: Float32 = np.ldexp(np.float32(1), np.clip(exponent, -126, 127)).astype(np.float32)
        return result

    def fit(
        self, weights: Float32, *, search: Search = Search.MINMAX, importance: Float32 | None = None
    ) -> Grid:
        """As ``Scaled.fit``; part ``exponents`` uint8 ``[G, N]``, ``scale = 2 ** (exponents - 127)``."""
        scale = self.scales(weights, search, importance)
        exponents = (np.frexp(scale)[1] - 1 + E8M0_BIAS).astype(np.uint8)
        return Grid(scale, parts={"exponents": exponents})

    def bits_per_weight(self, rows: int, columns: int) -> float:
        """4 bits a weight and 8 a scale."""
        return whole_bytes(4 * rows * columns, 8 * group_count(rows, MX_GROUP) * columns) / (rows * columns)


@dataclass(frozen=True)
class _NvGroups(_E2M1):
    """nvfp4 with its tensor scale known."""

    tensor_scale: float

    @property
    def name(self) -> str:
        return "nvfp4"

    @property
    def group(self) -> int:
        return NV_GROUP

    def bits_per_weight(self, rows: int, columns: int) -> float:
        return NvFp4().bits_per_weight(rows, columns)

    def start(self, values: Float32) -> Float32:
        return self.store(largest_magnitude(values) / np.float32(6))

    def bytes_of(self, scale: Float32) -> Codes:
        relative = np.clip(scale / np.float32(self.tensor_scale), E4M3_SMALLEST, E4M3_LARGEST)
        codes: Codes = relative.astype(ml_dtypes.float8_e4m3fn).view(np.uint8)
        return codes

    def store(self, scale: Float32) -> Float32:
        return float8_levels()[self.bytes_of(scale)] * np.float32(self.tensor_scale)


@dataclass(frozen=True)
class NvFp4(_E2M1):
    """NVFP4: e2m1, groups of 16, scales in e4m3 times one float32 for the tensor."""

    @property
    def name(self) -> str:
        """``nvfp4``."""
        return "nvfp4"

    @property
    def group(self) -> int:
        """16."""
        return NV_GROUP

    @property
    def span(self) -> None:
        """The tensor's scale depends on all of it."""
        return None

    def start(self, values: Float32) -> Float32:
        """As for a tensor of ``values`` alone."""
        return _NvGroups(self._tensor_scale(values)).start(values)

    def fit(
        self, weights: Float32, *, search: Search = Search.MINMAX, importance: Float32 | None = None
    ) -> Grid:
        """As ``Scaled.fit``; parts ``scale_codes`` e4m3 bytes ``[G, N]`` and ``tensor_scale`` float32 ``[1]``.

        Raises:
            UnsupportedError: a weight is not finite.
        """
        tensor_scale = self._tensor_scale(weights)
        groups = _NvGroups(tensor_scale)
        scale = groups.scales(weights, search, importance)
        codes = groups.bytes_of(scale)
        return Grid(
            groups.store(scale),
            parts={"scale_codes": codes, "tensor_scale": np.array([tensor_scale], np.float32)},
        )

    def _tensor_scale(self, values: Float32) -> float:
        """The largest group scale becomes 448."""
        largest = float(max(values.max(initial=0), -values.min(initial=0)))
        if not np.isfinite(largest):
            raise UnsupportedError("weights are not finite; nvfp4 cannot scale them")
        return float(np.float32(max(largest, 1e-30) / (6 * E4M3_LARGEST)))

    def bits_per_weight(self, rows: int, columns: int) -> float:
        """4 bits a weight, 8 a scale, 32 for the tensor."""
        scales = 8 * group_count(rows, NV_GROUP) * columns + 32
        return whole_bytes(4 * rows * columns, scales) / (rows * columns)
