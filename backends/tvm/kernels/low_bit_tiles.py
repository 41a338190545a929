"""The product of few bits on tiles: a pair of blocks is unpacked to levels once, then multiplied by all rows.

Every group along K has a scale, so its sums leave the tiles, as integers, and are scaled and added up as floats.
"""

from __future__ import annotations

from typing import Protocol

from qcompiler.backends.tvm.kernels import amx
from qcompiler.backends.tvm.kernels.dot_product import DEPTH, STEP
from qcompiler.backends.tvm.kernels.epilogue import Writer
from qcompiler.backends.tvm.kernels.vectors import LANES, Buffer, Expr, T, let, load, splat, store

FEW_ROWS = 16
"""With fewer, unpacking for all rows costs more than tiles save."""


class Groups(Protocol):
    """The kernel whose product it is.

    Attributes:
        rows: M.
        codes: int8 ``[M, K]``, rows whole groups.
        weight: uint8 ``[N/16, V, 64]``, packed.
        writer: of results.
    """

    rows: Expr
    codes: Buffer
    weight: Buffer
    writer: Writer

    def levels(self, packed: Expr, step: int) -> Expr:
        """uint8 x 64: the weights of one step of K in a packed vector."""

    def scaled(self, row: Expr, block: Expr, group: Expr, exact: Expr) -> Expr:
        """float32 x 16: what the sums of a group add to the result."""


class OnTiles:
    """The statements; ``group`` weights share a scale, and a packed vector holds ``steps`` steps of K."""

    def __init__(self, kernel: Groups, group: int, steps: int) -> None:
        self._kernel, self._group, self._steps = kernel, group, steps
        self._depth = next(depth for depth in (64, 48, 32, 16) if group % depth == 0)
        vectors = int(kernel.weight.shape[1])
        self._vectors, self._groups = vectors, vectors * steps * DEPTH // group

    def emit(self, channels: int) -> None:
        amx.each_pair(self._kernel.rows, channels, self._rows, self._unpack, depth=self._depth)

    def _unpack(self, block: Expr, valid: list[int]) -> None:
        self._panel = T.alloc_buffer((len(valid), self._vectors * self._steps, STEP), "uint8")
        self._exact = amx.sums_buffer()
        self._results = T.alloc_buffer((amx.PAIR * amx.ROWS, amx.PAIR * LANES), "float32")
        for column in range(len(valid)):
            with T.serial(0, self._vectors) as vector:
                packed = let(load(self._kernel.weight, [block + column, vector, 0], STEP))
                for step in range(self._steps):
                    levels = self._kernel.levels(packed, step)
                    store(self._panel, [column, vector * self._steps + step, 0], levels, STEP)

    def _rows(self, row: Expr, tiles: int, block: Expr, valid: list[int]) -> None:
        kernel, results, count = self._kernel, self._results, amx.rows_of(tiles, self._kernel.rows)

        def clear(index: Expr, column: Expr, _: int) -> None:
            store(results, [index, column * LANES], splat(T.float32(0.0)))

        def add(index: Expr, column: Expr, _: int) -> None:
            place = [index, column * LANES]
            value = kernel.scaled(row + index, block + column, group, load(self._exact, place))
            store(results, place, load(results, place) + value)

        def finish(index: Expr, column: Expr, lanes: int) -> None:
            kernel.writer.write(row + index, block + column, load(results, [index, column * LANES]), lanes)

        amx.each_value(count, valid, clear)
        with T.serial(0, self._groups) as group:
            self._multiply(row, tiles, group, len(valid))
            amx.each_value(count, valid, add)
        amx.each_value(count, valid, finish)

    def _multiply(self, row: Expr, tiles: int, group: Expr, blocks: int) -> None:
        """The exact sums of one group."""
        codes, depth = self._kernel.codes, self._depth
        sums = amx.Sums("tdpbsud", tiles, blocks)
        with T.serial(0, self._group // depth) as index:
            first = let(group * self._group + index * depth)
            sums.add(
                lambda tile: codes[row + tile * amx.ROWS, first],
                int(codes.shape[-1]),
                lambda tile: self._panel[tile, T.floordiv(first, DEPTH), 0],
            )
        sums.write(self._exact)
