"""How a convolution is cut: bands of rows, done by any thread, and tiles whose sums are held in registers.

A tile is some neighbouring pixels of a row by some neighbouring blocks of 16 channels.  Everything but the batch is
known, so tiles at the right edge and at the last channels are programs of their own and nothing is checked at run time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.vectors import LANES, Expr, T, let

PARALLEL_FROM = 1_000_000
"""Multiplications from which threads are worth waking."""

_BAND_BYTES = 24 * 1024
"""Of the input, so that it stays in the first-level cache."""

_WEIGHT_BYTES = 64 * 1024
"""Weights up to here may be read again for every band."""

_WIDEST_ROW = 512
"""Pixels of a row that a pointwise convolution is seen as having."""

_CODE_SUMS = {Variant.PLAIN: 4, Variant.AVX2: 2, Variant.AVX_VNNI: 5, Variant.AVX512_VNNI: 28}
_FLOAT_SUMS = {Variant.PLAIN: 2, Variant.AVX2: 6, Variant.AVX_VNNI: 6, Variant.AVX512_VNNI: 28}
"""Vectors of 16 sums that fit the registers beside their operands."""

_CODE_PARTS = {Variant.PLAIN: 4, Variant.AVX2: 4, Variant.AVX_VNNI: 2, Variant.AVX512_VNNI: 1}
_FLOAT_PARTS = {Variant.PLAIN: 4, Variant.AVX2: 2, Variant.AVX_VNNI: 2, Variant.AVX512_VNNI: 1}
"""Registers that such a vector takes."""

_REGISTERS = 31
"""Of AVX-512, for sums, weights, and a pixel."""


@dataclass(frozen=True)
class ConvTile:
    """How to cut.

    Attributes:
        pixels: columns of a tile.
        blocks: blocks of 16 channels of a tile.
        band: rows of the result that are computed from one copy of the input.
        parts: that the blocks are split into, for threads where there are few rows.
        width: of the rows that a pointwise convolution sees; 0 for the width of the image.
    """

    pixels: int
    blocks: int
    band: int
    parts: int = 1
    width: int = 0

    def view(self, shape: ConvShape) -> ConvShape:
        """The shape that is computed."""
        if not self.width:
            return shape
        return shape.seen_as(shape.height * shape.width // self.width, self.width)


def blocks_of(shape: ConvShape) -> int:
    """Blocks of 16 channels that the result of one group has; the last may be partial."""
    return -(-shape.filters // shape.groups // LANES)


def choose_tile(shape: ConvShape, variant: Variant, *, codes: bool) -> ConvTile:
    """The first of the candidates."""
    return candidate_tiles(shape, variant, codes=codes, count=1)[0]


def candidate_tiles(shape: ConvShape, variant: Variant, *, codes: bool, count: int) -> list[ConvTile]:
    """The tiles with the fewest estimated cycles, best first."""
    limit = (_CODE_SUMS if codes else _FLOAT_SUMS)[variant]
    parts = (_CODE_PARTS if codes else _FLOAT_PARTS)[variant]
    sizes = [
        (pixels, blocks)
        for blocks in (1, 2, 3, 4)
        for pixels in range(1, limit // blocks + 1)
        if (pixels + 1) * blocks < _REGISTERS
    ]
    tiles = [
        ConvTile(pixels, blocks, 1, width=width) for pixels, blocks in sizes for width in _row_widths(shape)
    ]
    tiles.sort(
        key=lambda tile: (estimated_cycles(shape, tile, parts), -tile.pixels * tile.blocks, tile.width)
    )
    return [_with_bands(shape, tile, 1 if codes else 4) for tile in tiles[:count]]


def _row_widths(shape: ConvShape) -> list[int]:
    if not shape.is_pointwise:
        return [0]
    area = shape.height * shape.width
    return [width for width in range(1, min(area, _WIDEST_ROW) + 1) if area % width == 0]


def estimated_cycles(shape: ConvShape, tile: ConvTile, parts: int) -> float:
    """For one step of K of all tiles: two products or two loads a cycle, and four cycles until a sum can grow again."""
    view = tile.view(shape)
    spent = 0.0
    columns, chunks = _cut(view.out_width, tile.pixels), _cut(blocks_of(shape), tile.blocks)
    for (wide, times), (deep, repeats) in itertools.product(columns, chunks):
        products, loads = wide * deep * parts, wide + deep * parts
        spent += times * repeats * (max(products / 2, loads / 2, 4.0) + 0.5)
    return spent * view.out_height


def _cut(total: int, size: int) -> list[tuple[int, int]]:
    """``(size, count)`` of the pieces of a total."""
    whole, rest = divmod(total, size)
    return ([(size, whole)] if whole else []) + ([(rest, 1)] if rest else [])


def _with_bands(shape: ConvShape, tile: ConvTile, item_bytes: int) -> ConvTile:
    """Bands for the cache, and at least two pieces of work where threads pay."""
    view, chunks = tile.view(shape), blocks_of(shape) // tile.blocks
    weights = view.kernel[0] * view.kernel[1] * view.depth * view.filters * item_bytes
    band = cached_rows(view, item_bytes)
    if weights > _WEIGHT_BYTES:
        band = max(band, -(-view.out_height // 2))
    if view.products >= PARALLEL_FROM and weights > _WEIGHT_BYTES and chunks > 1:
        return replace(tile, band=view.out_height, parts=2)
    if view.products >= PARALLEL_FROM:
        band = min(band, -(-view.out_height // 2))
    return replace(tile, band=min(band, view.out_height))


def cached_rows(shape: ConvShape, item_bytes: int) -> int:
    """Rows of the result whose input stays in the first-level cache."""
    rows = _BAND_BYTES // (shape.padded_width * shape.channels * item_bytes)
    return max(1, (rows - shape.span[0]) // shape.strides[0] + 1)


@dataclass(frozen=True)
class Band:
    """What one turn of the outer loop computes.

    Attributes:
        image: its number.
        row: first row of the result.
        rows: how many.
        part: of the blocks.
    """

    image: Expr
    row: Expr
    rows: Expr
    part: Expr


def each_band(shape: ConvShape, tile: ConvTile, images: Expr, emit: Callable[[Band], None]) -> None:
    """Emit the loop over the bands of all images, in parallel where that pays."""
    bands = -(-shape.out_height // tile.band)
    loop = T.parallel if shape.products >= PARALLEL_FROM else T.serial
    with loop(0, images * (bands * tile.parts)) as index:
        image = let(T.floordiv(index, bands * tile.parts))
        place = let(T.floormod(index, bands * tile.parts))
        row = let(T.floordiv(place, tile.parts) * tile.band)
        rows = let(T.min(T.int32(shape.out_height) - row, T.int32(tile.band)))
        emit(Band(image, row, rows, let(T.floormod(place, tile.parts))))


@dataclass(frozen=True)
class Place:
    """Where a tile is.

    Attributes:
        row: of the result, counted from the first of the band.
        column: first of the tile.
        pixels: columns.
        group: of channels.
        block: first of the tile, counted within its group.
        valid: channels that exist, for each block.
    """

    row: Expr
    column: Expr
    pixels: int
    group: Expr
    block: Expr
    valid: list[int]


def each_tile(shape: ConvShape, tile: ConvTile, band: Band, emit: Callable[[Place], None]) -> None:
    """Emit the loops over the tiles of a band; blocks outside, so that their weights stay in the cache."""
    blocks, count = blocks_of(shape), tile.blocks
    channels = shape.filters // shape.groups
    whole = channels // LANES // count
    first, behind = (T.floordiv(whole * (band.part + i), tile.parts) for i in (0, 1))
    with T.serial(0, shape.groups) as group:
        if whole:
            with T.serial(first, behind) as chunk:
                _rows(shape, tile, band, Place(0, 0, 0, group, chunk * count, [LANES] * count), emit)
        rest = [min(LANES, channels - LANES * block) for block in range(whole * count, blocks)]
        if rest:
            with T.If(band.part == tile.parts - 1), T.Then():
                _rows(shape, tile, band, Place(0, 0, 0, group, T.int32(whole * count), rest), emit)


def _rows(shape: ConvShape, tile: ConvTile, band: Band, place: Place, emit: Callable[[Place], None]) -> None:
    whole, rest = divmod(shape.out_width, tile.pixels)
    with T.serial(0, band.rows) as row:
        if whole:
            with T.serial(0, whole) as index:
                emit(replace(place, row=row, column=index * tile.pixels, pixels=tile.pixels))
        if rest:
            emit(replace(place, row=row, column=T.int32(whole * tile.pixels), pixels=rest))
