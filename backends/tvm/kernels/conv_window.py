"""The input of a convolution with its padding in place: a band of rows is copied, or read where it lies.

Rows are seen as one run of values, pixel by pixel, so that neighbouring columns of a filter are read as one run too.
"""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.conv_tiling import Band, ConvTile
from qcompiler.backends.tvm.kernels.vectors import Buffer, Expr, T, load, splat, store

_COPIED_BYTES = 64


def rows_of(buffer: Buffer, rows: Expr, length: int) -> Buffer:
    """A buffer ``[N, H, W, C]`` seen as rows."""
    return T.decl_buffer((rows, length), str(buffer.dtype), data=buffer.data)


@dataclass(frozen=True)
class Window:
    """Where a band's input is read.

    Attributes:
        source: ``[rows, pixels * pixel]``.
        first: row of ``source`` that the first row of the band's result reads first.
        pixel: values between neighbouring columns.
        group: values between the first channels of neighbouring groups.
    """

    source: Buffer
    first: Expr
    pixel: int
    group: int


def steps_of(shape: ConvShape, depth: int) -> int:
    """Channels of a group, rounded up to whole steps of ``depth``."""
    return -(-shape.depth // depth) * depth


def needs_copy(shape: ConvShape, depth: int) -> bool:
    """Whether the input cannot be read where it lies: pixels around it, or channels that are no whole steps."""
    return any(shape.pads) or shape.depth % depth != 0


def open_window(shape: ConvShape, tile: ConvTile, x: Buffer, band: Band, fill: Expr, depth: int) -> Window:
    """Emit the copy of a band, if one is needed.

    Args:
        x: ``[N * H, W * C]``.
        fill: value of padding.
        depth: channels of one step.
    """
    group = steps_of(shape, depth)
    if not needs_copy(shape, depth):
        first = band.image * shape.height + band.row * shape.strides[0]
        return Window(x, first, shape.channels, group)
    rows = (tile.band - 1) * shape.strides[0] + shape.span[0]
    pixel = group * shape.groups
    copy = T.alloc_buffer((rows, shape.padded_width * pixel), str(x.dtype))
    _copy_band(shape, x, copy, band, fill, group)
    return Window(copy, T.int32(0), pixel, group)


def _copy_band(shape: ConvShape, x: Buffer, copy: Buffer, band: Band, fill: Expr, group: int) -> None:
    top, left, _, right = shape.pads
    pixel = group * shape.groups
    used = (band.rows - 1) * shape.strides[0] + shape.span[0]
    with T.serial(0, used) as row:
        source = band.row * shape.strides[0] + row - top
        inside = T.And(source >= 0, source < shape.height)
        with T.If(inside):
            with T.Then():
                _fill(copy, row, 0, left * pixel, fill)
                _copy_row(shape, x, copy, band.image * shape.height + source, row, group)
                _fill(copy, row, (left + shape.width) * pixel, right * pixel, fill)
            with T.Else():
                _fill(copy, row, 0, shape.padded_width * pixel, fill)


def _copy_row(shape: ConvShape, x: Buffer, copy: Buffer, source: Expr, row: Expr, group: int) -> None:
    start = shape.pads[1] * group * shape.groups
    if group == shape.depth:
        for first, count, lanes in runs(shape.width * shape.channels, _lanes(x)):
            with T.serial(0, count) as index:
                place = first + index * lanes
                store(copy, [row, start + place], load(x, [source, place], lanes), lanes)
        return
    with T.serial(0, shape.width * shape.groups) as index, T.serial(0, shape.depth) as channel:
        T.buffer_store(copy, x[source, index * shape.depth + channel], [row, start + index * group + channel])


def _fill(copy: Buffer, row: Expr, start: int, length: int, value: Expr) -> None:
    for first, count, lanes in runs(length, _lanes(copy)):
        with T.serial(0, count) as index:
            store(
                copy,
                [row, start + first + index * lanes],
                splat(value, lanes) if lanes > 1 else value,
                lanes,
            )


def _lanes(buffer: Buffer) -> int:
    return _COPIED_BYTES if str(buffer.dtype) in ("uint8", "int8") else _COPIED_BYTES // 4


def runs(length: int, lanes: int) -> list[tuple[int, int, int]]:
    """``(first, count, lanes)``: whole vectors, then one of each power of two that is left."""
    whole = length // lanes
    found = [(0, whole, lanes)] if whole else []
    done = whole * lanes
    while lanes > 1:
        lanes //= 2
        if length - done >= lanes:
            found.append((done, 1, lanes))
            done += lanes
    return found
