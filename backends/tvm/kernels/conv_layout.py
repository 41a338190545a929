"""The borders of the part of a model that is computed in NHWC: images in and out, quantized on the way.

Squares of 16 pixels by 16 channels are turned in registers.  Up to four channels, which is how pictures come, are
written as one byte each of an int32 per pixel instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from qcompiler.backends.tvm.kernels.conv_window import runs
from qcompiler.backends.tvm.kernels.quantize import to_uint8
from qcompiler.backends.tvm.kernels.transpose import transposed
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    PrimFunc,
    T,
    build,
    cast,
    let,
    load_part,
    parameter,
    part,
    rows_parameter,
    splat,
    store,
    store_part,
)

Kind = Literal["float32", "uint8"]

PARALLEL_FROM = 100_000
"""Values from which threads are worth waking."""

_BLOCKS = 64
"""Of 16 pixels, that one turn of the outer loop takes."""


@dataclass(frozen=True)
class LayoutChange:
    """One kernel.

    Attributes:
        height, width, channels: of the images.
        last: whether channels become the last axis (NCHW to NHWC), or the second.
        source, result: dtypes; where they differ values are quantized or dequantized.
        padded: channels of an NHWC result, at least ``channels``; those added are 0. 0 for ``channels``.

    Parameters of the PrimFunc, in this order: ``x``; ``scale`` float32 ``[1]`` and ``zero`` int32 ``[1]`` where the
    dtypes differ; ``y``.
    """

    height: int
    width: int
    channels: int
    last: bool
    source: Kind
    result: Kind
    padded: int = 0

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def written(self) -> int:
        """Channels of the result."""
        return max(self.padded, self.channels) if self.last else self.channels


def layout_change(spec: LayoutChange, name: str = "layout_change") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _Change(spec).body())


class _Change:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: LayoutChange) -> None:
        self.spec = spec
        self.images = rows_parameter()
        self.x = parameter("x", self._shape(spec.channels, last=not spec.last), spec.source)
        converts = spec.source != spec.result
        self.scale: Buffer = parameter("scale", (1,), "float32") if converts else None
        self.zero: Buffer = parameter("zero", (1,), "int32") if converts else None
        self.y = parameter("y", self._shape(spec.written, last=spec.last), spec.result)

    def _shape(self, channels: int, *, last: bool) -> tuple[Expr, ...]:
        size = (self.spec.height, self.spec.width)
        return (self.images, *size, channels) if last else (self.images, channels, *size)

    def body(self) -> None:
        with T.sblock("root"):  # which TVM expects of functions of one tensor
            self._loops()

    def _loops(self) -> None:
        spec = self.spec
        self.x, self.y = (
            self._flat(self.x, spec.channels, spec.last),
            self._flat(self.y, spec.written, not spec.last),
        )
        whole, rest = divmod(spec.pixels, LANES)
        chunks = max(1, -(-whole // _BLOCKS))
        loop = T.parallel if spec.pixels * spec.channels >= PARALLEL_FROM else T.serial
        with loop(0, self.images * chunks) as index:
            image, chunk = let(T.floordiv(index, chunks)), let(T.floormod(index, chunks))
            first = let(chunk * _BLOCKS)
            with T.serial(0, T.min(T.int32(whole) - first, T.int32(_BLOCKS))) as block:
                self._pixels(image, (first + block) * LANES, LANES)
            if rest:
                with T.If(chunk == chunks - 1), T.Then():
                    self._pixels(image, T.int32(whole * LANES), rest)

    def _flat(self, buffer: Buffer, channels: int, channels_first: bool) -> Buffer:
        """``[N * C, pixels]`` or ``[N * pixels, C]``."""
        pixels, images = self.spec.pixels, self.images
        shape = (images * channels, pixels) if channels_first else (images * pixels, channels)
        return T.decl_buffer(shape, str(buffer.dtype), data=buffer.data)

    def _pixels(self, image: Expr, pixel: Expr, count: int) -> None:
        """All channels of up to 16 pixels."""
        spec = self.spec
        if spec.last and spec.result == "uint8" and spec.written == 4:
            self._four_channels(image, pixel, count)
            return
        whole, rest = divmod(spec.written, LANES)
        present = spec.channels // LANES
        if present:
            with T.serial(0, present) as block:
                self._square(image, pixel, count, block * LANES, LANES, LANES)
        for first in range(present * LANES, whole * LANES + rest, LANES):
            written = min(LANES, spec.written - first)
            self._square(
                image, pixel, count, T.int32(first), max(0, min(LANES, spec.channels - first)), written
            )

    def _square(
        self, image: Expr, pixel: Expr, pixels: int, channel: Expr, channels: int, written: int
    ) -> None:
        spec = self.spec
        if spec.last:
            values = [self._read(image * spec.channels + channel + c, pixel, pixels) for c in range(channels)]
            rows = transposed(_filled(values, spec.result))[:pixels]
            for p, row in enumerate(rows):
                self._write(image * spec.pixels + pixel + p, channel, row, written)
            return
        values = [self._read(image * spec.pixels + pixel + p, channel, channels) for p in range(pixels)]
        for c, row in enumerate(transposed(_filled(values, spec.result))[:channels]):
            self._write(image * spec.channels + channel + c, pixel, row, pixels)

    def _four_channels(self, image: Expr, pixel: Expr, pixels: int) -> None:
        spec = self.spec
        bytes_ = [self._read(image * spec.channels + c, pixel, pixels) for c in range(spec.channels)]
        word = bytes_[0]
        for c, byte in enumerate(bytes_[1:], 1):
            word = T.bitwise_or(word, T.shift_left(byte, splat(T.int32(8 * c))))
        codes = let(T.reinterpret(f"uint8x{4 * LANES}", let(word)))
        flat = T.decl_buffer((self.images * spec.pixels * 4,), "uint8", data=self.y.data)
        start = (image * spec.pixels + pixel) * 4
        for first, count, lanes in runs(4 * pixels, 4 * LANES):
            for index in range(count):
                place = first + index * lanes
                value = codes if lanes == 4 * LANES else part(codes, place, lanes)
                store(flat, [start + place], value, lanes)

    def _read(self, row: Expr, column: Expr, valid: int) -> Expr:
        """float32 x 16, or int32 x 16 where codes are written."""
        spec = self.spec
        value = load_part(self.x, [row, column], valid)
        if spec.source == "uint8":
            value = cast(value, "int32")
            if spec.result == "uint8":
                return let(value)
            return let(cast(value - splat(self.zero[0]), "float32") * splat(self.scale[0]))
        if spec.result == "float32":
            return let(value)
        return let(cast(to_uint8(value, self.scale[0], self.zero[0]), "int32"))

    def _write(self, row: Expr, column: Expr, value: Expr, valid: int) -> None:
        codes = self.spec.result == "uint8"
        store_part(self.y, [row, column], let(cast(value, "uint8")) if codes else value, valid)


def _filled(values: list[Expr], result: Kind) -> list[Expr]:
    """Sixteen vectors, those that are missing 0."""
    zero = splat(T.int32(0) if result == "uint8" else T.float32(0.0))
    return values + [zero] * (LANES - len(values))
