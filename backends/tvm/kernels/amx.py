"""Tiles of Intel AMX: eight registers of up to 16 rows by 64 bytes, and a multiplication of two of them into a third.

A tile of sums is 16 rows by 16 channels of int32.  Two of activations (16 rows by 64 along K) and two of weights (16
steps of 4 along K by 16 channels, which is how weights are packed anyway) feed four of sums, so that every tile that is
loaded is used twice.

A thread must load a configuration before it uses tiles, and give them up behind it: until then the operating system
saves 8 KB more at every switch.  Source: Intel 64 and IA-32 Software Developer's Manual, volume 1, chapter 18.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from tvm.tirx import const

from qcompiler.backends.tvm.kernels.tiling import each_chunk
from qcompiler.backends.tvm.kernels.vectors import LANES, Buffer, Expr, T, let, splat, store

ROWS, ROW_BYTES = 16, 64
"""Of a tile."""

STEP_DEPTH, STEPS = 4, 16
"""Neighbours along K that stand side by side in a row of weights, and rows in a whole tile of them."""

FEW_ROWS = 8
"""With fewer, vectors are as fast."""

PAIR = 2
"""Tiles side by side, in both directions."""

_SUMS, _LEFT, _RIGHT = 0, PAIR * PAIR, PAIR * PAIR + PAIR
"""Numbers of the first tile of each kind."""

_CONFIG_BYTES, _COLUMNS_AT, _ROWS_AT, _TILES = 64, 16, 48, 8
_PALETTE = 1

Product = Literal["tdpbusd", "tdpbsud"]
"""uint8 by int8, or int8 by uint8: activations come first."""

EmitRows = Callable[[Expr, int, Expr, list[int]], None]
"""Called with the first row, how many tiles of rows, the first block, and how many channels of each exist."""


def each_pair(
    rows: Expr,
    channels: int,
    emit: EmitRows,
    prepare: Callable[[Expr, list[int]], None],
    *,
    depth: int = ROW_BYTES,
) -> None:
    """Emit loops over pairs of blocks, in parallel, and over all rows within: 32 at a time, then 16.

    The last 16 rows may begin among those that are already done, and give the same results again; where there are
    fewer than 16 tiles have only so many rows.

    Args:
        rows: at least 1.
        emit: statements for some rows of a pair of blocks.
        prepare: statements in front of all rows of a pair of blocks.
        depth: along K of a tile, a multiple of 4 up to 64.
    """
    config = _configuration(T.min(rows, ROWS), depth)

    def chunk(block: Expr, valid: list[int]) -> None:
        prepare(block, valid)
        _tile("ldtilecfg", T.address_of(config[0]))
        whole = let(T.floordiv(rows, PAIR * ROWS))
        with T.serial(0, whole) as index:
            emit(index * (PAIR * ROWS), PAIR, block, valid)
        first = let(whole * (PAIR * ROWS))
        last = let(T.max(rows - ROWS, 0))
        with T.serial(0, T.floordiv(rows - first + (ROWS - 1), ROWS)) as index:
            emit(let(T.min(first + index * ROWS, last)), 1, block, valid)
        _tile("tilerelease")

    each_chunk(PAIR, channels, chunk)


def rows_of(tiles: int, rows: Expr) -> Expr:
    """How many rows tiles of :func:`each_pair` have."""
    return T.int32(PAIR * ROWS) if tiles == PAIR else T.min(rows, ROWS)


def each_value(rows: Expr, valid: list[int], emit: Callable[[Expr, Expr, int], None]) -> None:
    """Emit ``emit`` for the place of every 16 sums: row, column of blocks, how many channels exist."""
    with T.serial(0, rows) as row:
        if set(valid) == {LANES}:
            with T.serial(0, len(valid)) as column:
                emit(row, column, LANES)
        else:
            for column, lanes in enumerate(valid):
                emit(row, T.int32(column), lanes)


class Sums:
    """Tiles of sums, as many rows of tiles by as many blocks, all 0."""

    def __init__(self, product: Product, tiles: int, blocks: int) -> None:
        self._product, self._tiles, self._blocks = product, tiles, blocks
        for row in range(tiles):
            for column in range(blocks):
                _tile("tilezero", _number(_SUMS, row, column))

    def add(
        self,
        left: Callable[[int], Expr],
        left_bytes: int,
        right: Callable[[int], Expr],
        right_bytes: int = ROW_BYTES,
    ) -> None:
        """Add the products of tiles along K.

        Args:
            left: the first element of each tile of activations, and ``left_bytes`` from a row to the next.
            right: the first element of each tile of weights, likewise.
        """
        for column in range(self._blocks):
            _load(_number(_RIGHT, 0, column), right(column), right_bytes)
        for row in range(self._tiles):
            _load(_number(_LEFT, 0, row), left(row), left_bytes)
            for column in range(self._blocks):
                sums = _number(_SUMS, row, column)
                _tile(self._product, sums, _number(_LEFT, 0, row), _number(_RIGHT, 0, column))

    def write(self, target: Buffer) -> None:
        """Store all to int32 ``[32, 32]``."""
        for row in range(self._tiles):
            for column in range(self._blocks):
                place = T.address_of(target[row * ROWS, column * LANES])
                _tile("tilestored64", _number(_SUMS, row, column), place, T.int64(PAIR * ROW_BYTES))


def sums_buffer() -> Buffer:
    """Where sums wait for what is done to them."""
    return T.alloc_buffer((PAIR * ROWS, PAIR * LANES), "int32")


def _configuration(rows: Expr, depth: int) -> Buffer:
    """What ``ldtilecfg`` reads: sums are ``rows`` by 64 bytes, activations by ``depth``, weights a quarter by 64."""
    config = T.alloc_buffer((_CONFIG_BYTES,), "uint8")
    store(config, [0], splat(T.uint8(0), _CONFIG_BYTES), _CONFIG_BYTES)
    T.buffer_store(config, T.uint8(_PALETTE), [0])
    for tile in range(_TILES):
        row_bytes = depth if _LEFT <= tile < _RIGHT else ROW_BYTES
        height = T.cast(rows, "uint8") if tile < _RIGHT else T.uint8(depth // STEP_DEPTH)
        T.buffer_store(config, T.uint8(row_bytes), [_COLUMNS_AT + 2 * tile])
        T.buffer_store(config, height, [_ROWS_AT + tile])
    return config


def _number(first: int, row: int, column: int) -> Expr:
    return const(first + row * PAIR + column, "int8")


def _load(tile: Expr, first: Expr, row_bytes: int) -> None:
    _tile("tileloadd64", tile, T.address_of(first), T.int64(row_bytes))


def _tile(name: str, *operands: Expr) -> None:
    number = T.llvm_lookup_intrinsic_id(f"llvm.x86.{name}")
    T.evaluate(T.call_llvm_intrin("int32", number, *operands))
