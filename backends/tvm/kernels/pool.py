"""Maximum and mean of windows, in NHWC: 16 channels side by side, of float32 or of uint8 codes.

    maximum    y[n, h, w, c] = max_(i, j) x[n, h*s + i*d, w*s + j*d, c]
    mean       y[n, h, w, c] = share[h, w] * sum_(i, j) (x[...] - zero), times a plus c, rounded where codes come out

``share`` is one over the number of values that count, which is smaller at the border where padding does not count.  The
mean of a whole image is a window as large as the image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.kernels.conv_epilogue import REAL, Codes
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
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    PrimFunc,
    Register,
    T,
    build,
    cast,
    let,
    load_part,
    parameter,
    round_to_int,
    rows_parameter,
    splat,
    store_part,
)

Floats = npt.NDArray[np.float32]

_SUMS = 4
"""Held together, so that none waits for the one before."""

_LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True)
class Pool:
    """One kernel.

    Attributes:
        shape: all sizes but the batch; as many filters as channels. A shape that rounds up has more pads.
        kind: of pooling.
        codes: whether ``x`` are uint8 codes.
        codes_out: whether a mean is written as codes; a maximum is of the same kind as ``x``.

    Parameters of the PrimFunc, in this order: ``x`` float32 or uint8 ``[N, H, W, C]``; for the mean, ``x_zero`` int32
    ``[1]`` where ``x`` is codes, ``share`` float32 ``[h * w]`` and ``line`` float32 ``[2]`` (a and c), as :func:`pack`
    gives; ``y`` ``[N, h, w, C]``.
    """

    shape: ConvShape
    kind: Literal["max", "mean"]
    codes: bool
    codes_out: bool = False

    @property
    def result(self) -> str:
        return "uint8" if (self.codes if self.kind == "max" else self.codes_out) else "float32"


def pack(
    spec: Pool, counted: tuple[int, int, int, int], x: Codes = REAL, result: Codes = REAL
) -> list[npt.NDArray[np.float32] | npt.NDArray[np.int32]]:
    """The constants of a kernel, none for a maximum.

    Args:
        counted: top, left, bottom and right padding that counts as values.
        x: codes of ``x``; ``REAL`` where it is float.
        result: codes of ``y``; ``REAL`` where it is float.
    """
    if spec.kind == "max":
        return []
    line = np.array([x.scale / result.scale, result.zero_point], np.float32)
    constants: list[npt.NDArray[np.float32] | npt.NDArray[np.int32]] = [_shares(spec.shape, counted), line]
    return [np.array([x.zero_point], np.int32), *constants] if spec.codes else constants


def _shares(shape: ConvShape, counted: tuple[int, int, int, int]) -> Floats:
    """float32 ``[h * w]``."""
    rows = _counts(shape, 0, shape.out_height, shape.height, (counted[0], counted[2]))
    columns = _counts(shape, 1, shape.out_width, shape.width, (counted[1], counted[3]))
    return (1 / np.maximum(np.outer(rows, columns), 1)).astype(np.float32).reshape(-1)


def _counts(
    shape: ConvShape, axis: int, results: int, size: int, counted: tuple[int, int]
) -> npt.NDArray[np.int64]:
    """How many places of every window count, along one axis."""
    first = np.arange(results)[:, None] * shape.strides[axis] - shape.pads[axis]
    places = first + np.arange(shape.kernel[axis]) * shape.dilations[axis]
    return np.asarray(((places >= -counted[0]) & (places < size + counted[1])).sum(1))


def pool(spec: Pool, name: str = "pool") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _Pool(spec).body())


class _Pool:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: Pool) -> None:
        self.spec, shape = spec, spec.shape
        self.images = rows_parameter()
        kind = "uint8" if spec.codes else "float32"
        self.x = parameter("x", (self.images, shape.height, shape.width, shape.channels), kind)
        mean = spec.kind == "mean"
        self.zero: Buffer = parameter("x_zero", (1,), "int32") if mean and spec.codes else None
        self.share: Buffer = (
            parameter("share", (shape.out_height * shape.out_width,), "float32") if mean else None
        )
        self.line: Buffer = parameter("line", (2,), "float32") if mean else None
        size = (self.images, shape.out_height, shape.out_width, shape.channels)
        self.y = parameter("y", size, spec.result)
        self.shape = replace(shape, groups=1)
        pixels = min(_SUMS, shape.out_width)
        band = min(cached_rows(shape, 1 if spec.codes else 4), -(-shape.out_height // 2))
        self.tile = ConvTile(pixels, _SUMS // pixels, band)

    def body(self) -> None:
        shape = self.shape
        self.x = rows_of(self.x, self.images * shape.height, shape.width * shape.channels)
        self.y = rows_of(self.y, self.images * shape.out_height, shape.out_width * shape.channels)
        with T.sblock("root"):  # which TVM expects of functions of one tensor
            each_band(shape, self.tile, self.images, self._band)

    def _band(self, band: Band) -> None:
        window = open_window(self.shape, self.tile, self.x, band, self._fill(), 1)
        each_tile(self.shape, self.tile, band, lambda place: self._tile(band, window, place))

    def _fill(self) -> Expr:
        """What padding is: less than any value, or nothing."""
        if self.spec.kind == "max":
            return T.uint8(0) if self.spec.codes else T.float32(_LOWEST)
        return T.float32(0.0) if self.zero is None else let(T.cast(self.zero[0], "uint8"))

    def _tile(self, band: Band, window: Window, place: Place) -> None:
        shape, found = self.shape, []
        for p in range(place.pixels):
            for b, valid in enumerate(place.valid):
                register = Register("uint8" if self.spec.result == "uint8" and self._is_max else "float32")
                register.clear(self._first())
                found.append((p, b, valid, register))
        with T.serial(0, shape.kernel[0]) as i, T.serial(0, shape.kernel[1]) as j:
            row = let(window.first + place.row * shape.strides[0] + i * shape.dilations[0])
            column = let(place.column * shape.strides[1] + j * shape.dilations[1])
            for p, b, valid, register in found:
                at = (column + p * shape.strides[1]) * window.pixel + (place.block + b) * LANES
                register.set(self._added(register.value, load_part(window.source, [row, at], valid)))
        row = let(band.row + place.row)
        for p, b, valid, register in found:
            value = self._finished(register.value, row * shape.out_width + place.column + p)
            at = (place.column + p) * shape.channels + (place.block + b) * LANES
            store_part(self.y, [band.image * shape.out_height + row, at], let(value), valid)

    @property
    def _is_max(self) -> bool:
        return self.spec.kind == "max"

    def _first(self) -> Expr:
        if not self._is_max:
            return T.float32(0.0)
        return T.uint8(0) if self.spec.codes else T.float32(_LOWEST)

    def _added(self, sums: Expr, value: Expr) -> Expr:
        return T.max(sums, value) if self._is_max else sums + cast(value, "float32")

    def _finished(self, sums: Expr, pixel: Expr) -> Expr:
        if self._is_max:
            return sums
        if self.zero is not None:
            taps = T.float32(self.shape.kernel[0] * self.shape.kernel[1])
            sums = sums - splat(cast(self.zero[0], "float32", 1) * taps)
        value = sums * splat(self.share[pixel]) * splat(self.line[0]) + splat(self.line[1])
        if self.spec.result == "float32":
            return value
        clipped = T.min(T.max(value, splat(T.float32(0.0))), splat(T.float32(255.0)))
        return cast(round_to_int(let(clipped)), "uint8")
