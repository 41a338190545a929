"""Convolution of every channel by a filter of its own, in NHWC: 16 channels side by side, float32 or uint8 x int8.

    y[n, h, w, c] = epilogue(sum_(i, j) (x[n, h*s + i*d, w*s + j*d, c] - zero) * weight[c, i, j])

There is nothing to add up within a register, so codes are widened to float32 as they are read and multiplied as floats:
a sum of up to 500 products of 8 bits is an exact float.  A tile is some neighbouring pixels of a row, for which every
column is read once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.conv_epilogue import PLAIN_SUMS, ConvEpilogue, ConvWriter, Numbers
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.conv_tiling import (
    Band,
    ConvTile,
    Place,
    cached_rows,
    each_band,
    each_tile,
)
from qcompiler.backends.tvm.kernels.conv_window import Window, open_window, rows_of
from qcompiler.backends.tvm.kernels.epilogue import pack_channels
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Expr,
    PrimFunc,
    Register,
    T,
    build,
    cast,
    let,
    load,
    load_part,
    parameter,
    rows_parameter,
)

_PIXELS = {Variant.PLAIN: 2, Variant.AVX2: 4, Variant.AVX_VNNI: 4, Variant.AVX512_VNNI: 14}
_UNROLLED_TAPS = 25


@dataclass(frozen=True)
class Depthwise:
    """One kernel.

    Attributes:
        shape: all sizes but the batch; as many groups and filters as channels.
        codes: whether ``x`` are uint8 codes and the weight int8.
        epilogue: what is done to the sums.
        tile: None for a good one; its ``blocks`` is 1.

    Parameters of the PrimFunc, in this order: ``x`` float32 or uint8 ``[N, H, W, C]``; ``x_zero`` int32 ``[1]`` where
    it is codes; ``weight`` float32 ``[blocks, taps, 16]``; ``start`` float32 ``[blocks, 16]``, as ``x_zero``; those
    of the epilogue. The constants are what :func:`pack` gives, in this order.
    """

    shape: ConvShape
    variant: Variant
    codes: bool
    epilogue: ConvEpilogue = PLAIN_SUMS
    tile: ConvTile | None = None

    @property
    def blocks(self) -> int:
        return -(-self.shape.channels // LANES)

    @property
    def taps(self) -> int:
        return self.shape.kernel[0] * self.shape.kernel[1]


def pack(spec: Depthwise, weight: npt.NDArray[Any], x_zero: int, numbers: Numbers) -> list[npt.NDArray[Any]]:
    """The constants of a kernel, from ``x_zero`` or ``weight`` to ``limits``.

    Args:
        weight: int8 or float32 ``[C, 1, kernel height, kernel width]``, as ONNX has it.
        x_zero: zero point of ``x``; 0 where it is float.
        numbers: ``sum_scale`` is the scale of ``x`` times those of the weight; 1 where they are float.
    """
    channels, multiplier, offset, limits = len(weight), *numbers.pack(spec.epilogue, len(weight))
    flat = weight.reshape(channels, -1).astype(np.float32)
    if not spec.codes:
        return [pack_taps(flat * multiplier[:, None]), pack_channels(offset), limits]
    start = pack_channels(-x_zero * flat.sum(1))
    constants = [np.array([x_zero], np.int32), pack_taps(flat), start]
    return [*constants, pack_channels(multiplier), pack_channels(offset), limits]


def pack_taps(flat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``[C, taps]`` to ``[blocks, taps, 16]``."""
    padded = np.pad(flat, ((0, -len(flat) % LANES), (0, 0)))
    return np.ascontiguousarray(padded.reshape(-1, LANES, flat.shape[1]).transpose(0, 2, 1))


def choose_tile(shape: ConvShape, variant: Variant, *, item_bytes: int) -> ConvTile:
    """Pixels that leave the fewest columns to be read, and bands that stay in the cache."""
    span, stride = shape.span[1], shape.strides[1]

    def columns_read(pixels: int) -> float:
        whole, rest = divmod(shape.out_width, pixels)
        return whole * ((pixels - 1) * stride + span + 2.0) + (
            ((rest - 1) * stride + span + 2.0) if rest else 0
        )

    pixels = min(range(1, _PIXELS[variant] + 1), key=columns_read)
    band = cached_rows(shape, item_bytes)
    return ConvTile(pixels, 1, min(max(band, 2), -(-shape.out_height // 2)))


def depthwise(spec: Depthwise, name: str = "depthwise") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _Depthwise(spec).body())


class _Depthwise:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: Depthwise) -> None:
        self.spec, shape = spec, spec.shape
        self.images = rows_parameter()
        kind = "uint8" if spec.codes else "float32"
        self.x = parameter("x", (self.images, shape.height, shape.width, shape.channels), kind)
        self.zero = parameter("x_zero", (1,), "int32") if spec.codes else None
        self.weight = parameter("weight", (spec.blocks, spec.taps, LANES), "float32")
        self.start = parameter("start", (spec.blocks, LANES), "float32") if spec.codes else None
        epilogue = replace(spec.epilogue, integer_sums=spec.codes)
        self.writer = ConvWriter(epilogue, self.images, shape, spec.blocks)
        self.shape = replace(shape, groups=1)
        self.tile = spec.tile or choose_tile(shape, spec.variant, item_bytes=1 if spec.codes else 4)

    def body(self) -> None:
        self.writer.see_rows(self.shape)
        self.rows = rows_of(self.x, self.images * self.shape.height, self.shape.width * self.shape.channels)
        each_band(self.shape, self.tile, self.images, self._band)

    def _band(self, band: Band) -> None:
        fill = T.float32(0.0) if self.zero is None else let(T.cast(self.zero[0], "uint8"))
        window = open_window(self.shape, self.tile, self.rows, band, fill, 1)
        each_tile(self.shape, self.tile, band, lambda place: self._tile(band, window, place))

    def _tile(self, band: Band, window: Window, place: Place) -> None:
        sums = [Register("float32") for _ in range(place.pixels)]
        for register in sums:
            if self.start is None:
                register.clear(T.float32(0.0))
            else:
                register.set(load(self.start, [place.block, 0]))
        if self.spec.taps <= _UNROLLED_TAPS:
            for i in range(self.shape.kernel[0]):
                self._add_row(window, place, i, sums)
        else:
            with T.serial(0, self.shape.kernel[0]) as i:
                self._add_row(window, place, i, sums)
        row = band.image * self.shape.out_height + band.row + place.row
        for p, register in enumerate(sums):
            at = (place.column + p) * self.shape.channels + place.block * LANES
            self.writer.write(row, at, place.block, register.value, place.valid[0])

    def _add_row(self, window: Window, place: Place, i: Expr, sums: list[Register]) -> None:
        """Add one row of the filter; every column that a pixel needs is read once."""
        shape = self.shape
        row = let(window.first + place.row * shape.strides[0] + i * shape.dilations[0])
        first = let(place.column * shape.strides[1] * window.pixel + place.block * LANES)
        readers: dict[int, list[tuple[int, int]]] = {}
        for p in range(place.pixels):
            for j in range(shape.kernel[1]):
                readers.setdefault(p * shape.strides[1] + j * shape.dilations[1], []).append((p, j))
        for column, found in sorted(readers.items()):
            codes = load_part(window.source, [row, first + column * window.pixel], place.valid[0])
            value = let(cast(codes, "float32"))
            for p, j in found:
                weight = load(self.weight, [place.block, i * shape.kernel[1] + j, 0])
                sums[p].set(sums[p].value + value * weight)
