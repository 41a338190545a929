"""The order in which a product is computed: tiles of rows by neighbouring blocks of 16 channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qcompiler.backends.tvm.kernels.vectors import LANES, Expr, T, let

EmitTile = Callable[[Expr, int, Expr, list[int]], None]
"""Called with the first row, the number of rows, the first block, and how many channels of each block exist."""


@dataclass(frozen=True)
class Tile:
    """Rows and blocks of 16 channels whose sums are held in registers together."""

    rows: int
    blocks: int


def each_tile(tile: Tile, rows: Expr, channels: int, emit: EmitTile) -> None:
    """Emit loops over all tiles: blocks outside, in parallel, so that their weights are read from memory once.

    Rows that do not fill a tile go through a smaller one, which is emitted for every number that can be left.
    """
    each_chunk(tile.blocks, channels, lambda block, valid: _all_rows(tile.rows, rows, block, valid, emit))


def each_stream(size: int, rows: Expr, channels: int, emit: EmitTile) -> None:
    """Emit a parallel loop over blocks for fewer than ``size`` rows, all of them in one tile.

    Weights are then read once, in the order in which they lie: memory gives a single stream faster than several.
    """

    def rows_of(block: Expr, valid: list[int]) -> None:
        for count in range(1, size):
            with T.If(rows == count), T.Then():
                emit(T.int32(0), count, block, valid)

    each_chunk(1, channels, rows_of)


def each_chunk(count: int, channels: int, emit: Callable[[Expr, list[int]], None]) -> None:
    """Emit a parallel loop over ``count`` blocks of channels at a time, and what is left behind it.

    Args:
        emit: called with the first block, and how many channels of each exist.
    """
    whole, blocks = channels // LANES // count, -(-channels // LANES)
    if whole:
        with T.parallel(0, whole) as chunk:
            emit(chunk * count, [LANES] * count)
    rest = [min(LANES, channels - LANES * block) for block in range(whole * count, blocks)]
    if rest:
        emit(T.int32(whole * count), rest)


def _all_rows(size: int, rows: Expr, block: Expr, valid: list[int], emit: EmitTile) -> None:
    with T.serial(0, T.floordiv(rows, size)) as index:
        emit(index * size, size, block, valid)
    left = let(T.floormod(rows, size))
    for count in range(1, size):
        with T.If(left == count), T.Then():
            emit(rows - count, count, block, valid)
