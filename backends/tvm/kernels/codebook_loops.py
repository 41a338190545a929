"""Products with weights that are looked up: lanes are neighbours along K, so each channel may have a table of its own.

A tile is some rows by four channels; its weights are looked up once for all its rows.  What is left in the lanes is
added up when a channel is done.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.kernels.tiling import Tile, each_tile
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    Register,
    T,
    across,
    let,
    load,
    load_part,
    store,
)

Number = TypeVar("Number", bound=np.generic)

TOGETHER = 4
"""Channels of a tile."""

Finish = Callable[[Expr, Expr, Expr, int], None]
"""Called with row, block, 16 sums, and how many of them exist."""


class Weights(Protocol):
    """How weights are looked up, 16 neighbours along K at a time."""

    depth: int
    """K of one turn of the loop, a multiple of 16."""

    def open_channel(self, channel: Expr) -> Expr:
        """What is kept for a channel, such as its table."""

    def open_step(self, group: Expr, member: int, step: Expr) -> Expr:
        """What is kept for ``depth`` weights of one of four channels, such as their codes."""

    def values(self, kept: Expr, codes: Expr, part: int) -> Expr:
        """float32 x 16: weights ``16 * part`` and following of a step."""


def add_up(weights: Weights, x: Buffer, rows: Expr, size: tuple[int, int], tile: int, finish: Finish) -> None:
    """Emit the loops over all rows and channels.

    Args:
        x: float32 ``[M, K]``.
        size: K and N.
        tile: rows of a tile.
    """
    depth, channels = size
    padded = -(-depth // weights.depth) * weights.depth
    source = x if padded == depth else _with_zeros(x, rows, depth, padded)

    def emit(row: Expr, count: int, block: Expr, valid: list[int]) -> None:
        sums = T.alloc_buffer((count * LANES,), "float32")
        with T.serial(0, LANES // TOGETHER) as group:
            _channels(weights, source, sums, row, count, block, group * TOGETHER, padded // weights.depth)
        for r in range(count):
            finish(row + r, block, let(load(sums, [r * LANES])), valid[0])

    each_tile(Tile(tile, 1), rows, channels, emit)


def _channels(
    weights: Weights, x: Buffer, sums: Buffer, row: Expr, rows: int, block: Expr, first: Expr, steps: int
) -> None:
    channels = [let(block * LANES + first + c) for c in range(TOGETHER)]
    group = let(T.floordiv(channels[0], TOGETHER))
    kept = [weights.open_channel(channel) for channel in channels]
    registers = [[Register("float32") for _ in range(rows)] for _ in channels]
    for register in itertools.chain(*registers):
        register.clear(T.float32(0.0))
    with T.serial(0, steps) as step:
        codes = [weights.open_step(group, member, step) for member in range(TOGETHER)]
        for part in range(weights.depth // LANES):
            at = step * weights.depth + part * LANES
            inputs = [let(load(x, [row + r, at])) for r in range(rows)]
            for c, held in enumerate(registers):
                value = let(weights.values(kept[c], codes[c], part))
                for register, given in zip(held, inputs, strict=True):
                    register.set(register.value + value * given)
    for c, held in enumerate(registers):
        for r, register in enumerate(held):
            found = across(register.value, lambda a, b: a + b)
            T.buffer_store(sums, found, [r * LANES + first + c])


def side_by_side(codes: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """``[N, steps, ...]`` to ``[N/4, steps, 4, ...]``: what a tile reads, in the order in which it reads it.

    Memory is then read as one stream; four of a kilobyte each are three times slower.
    """
    split = codes.reshape(-1, TOGETHER, *codes.shape[1:])
    return np.ascontiguousarray(np.swapaxes(split, 1, 2))


def _with_zeros(x: Buffer, rows: Expr, depth: int, padded: int) -> Buffer:
    """Rows that are whole steps."""
    copy = T.alloc_buffer((rows, padded), "float32")
    whole, valid = divmod(depth, LANES)
    with T.serial(0, rows) as row:
        if whole:
            with T.serial(0, whole) as index:
                store(copy, [row, index * LANES], load(x, [row, index * LANES]))
        for first in range(whole * LANES, padded, LANES):
            store(copy, [row, first], load_part(x, [row, first], valid if first < depth else 0))
    return copy
