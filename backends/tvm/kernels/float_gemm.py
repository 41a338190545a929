"""Float32 matrix product with a packed constant: what is not quantized.

    y[m, n] = sum_k x[m, k] * w[k, n], and an epilogue

Weights are stored as ``[N / 16, K, 16]``.  A panel of neighbouring blocks is multiplied K block by K block, so that
its part stays in the first cache while all rows pass; sums of a panel wait in memory in between.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.epilogue import PLAIN_RESULT, Epilogue, Writer
from qcompiler.backends.tvm.kernels.tiling import Tile
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    PrimFunc,
    Register,
    T,
    build,
    let,
    load,
    parameter,
    rows_parameter,
    splat,
    store,
)

TILES = {
    Variant.PLAIN: Tile(2, 1),
    Variant.AVX2: Tile(6, 1),
    Variant.AVX_VNNI: Tile(6, 1),
    Variant.AVX512_VNNI: Tile(6, 4),
}

DEPTH = 128
"""Rows of weights in a block of K: 32 KB with four blocks of channels."""


@dataclass(frozen=True)
class FloatGemm:
    """One kernel.

    Attributes:
        channels: N.
        depth: K.
        epilogue: what is done to the result.
        tile: None for the variant's own.
        step: rows of weights that stay in the cache; 0 for all.

    Parameters of the PrimFunc, in this order: ``x`` float32 ``[M, K]``; ``weight`` float32 ``[N/16, K, 16]`` as
    :func:`pack` gives; those of the epilogue.
    """

    channels: int
    depth: int
    variant: Variant
    epilogue: Epilogue = PLAIN_RESULT
    tile: Tile | None = None
    step: int = DEPTH


def pack(weight: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``[K, N]`` to ``[N/16, K, 16]``, missing channels 0."""
    padded = np.pad(weight, ((0, 0), (0, -weight.shape[1] % LANES)))
    blocks = padded.reshape(len(weight), -1, LANES).transpose(1, 0, 2)
    return np.ascontiguousarray(blocks, np.float32)


def float_gemm(spec: FloatGemm, name: str = "float_gemm") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _Gemm(spec).body())


class _Gemm:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: FloatGemm) -> None:
        self.spec, self.tile = spec, spec.tile or TILES[spec.variant]
        self.rows = rows_parameter()
        self.x = parameter("x", (self.rows, spec.depth), "float32")
        self.weight = parameter("weight", (-(-spec.channels // LANES), spec.depth, LANES), "float32")
        self.writer = Writer(spec.epilogue, self.rows, spec.channels)

    def body(self) -> None:
        channels, count = self.spec.channels, self.tile.blocks
        whole, blocks = channels // LANES // count, -(-channels // LANES)
        if whole:
            with T.parallel(0, whole) as index:
                self._panel(let(index * count), [LANES] * count)
        rest = [min(LANES, channels - LANES * block) for block in range(whole * count, blocks)]
        if rest:
            self._panel(T.int32(whole * count), rest)

    def _panel(self, block: Expr, valid: list[int]) -> None:
        """All rows of neighbouring blocks; few rows take K in one piece, as nothing would be used twice."""
        spec, size = self.spec, self.tile.rows
        step = let(T.Select(self.rows <= size, T.int32(spec.depth), T.int32(spec.step or spec.depth)))
        tiles = let(T.floordiv(self.rows, size))
        left = let(self.rows - tiles * size)
        sums = T.alloc_buffer((self.rows, len(valid), LANES), "float32")
        with T.serial(0, T.floordiv(step + (spec.depth - 1), step)) as piece:
            start = let(piece * step)
            length = let(T.min(step, spec.depth - start))
            with T.serial(0, tiles) as index:
                self._tile(index * size, size, block, start, length, sums)
            for rows in range(1, size):
                with T.If(left == rows), T.Then():
                    self._tile(self.rows - rows, rows, block, start, length, sums)
        with T.serial(0, self.rows) as row:
            values = [[load(sums, [row, j, 0]) for j in range(len(valid))]]
            self.writer.write_tile(row, block, values, valid)

    def _tile(self, row: Expr, rows: int, block: Expr, start: Expr, length: Expr, sums: Buffer) -> None:
        """Add the products of a piece of K to the sums, which begin at 0."""
        blocks = int(sums.shape[1])
        registers = [[Register("float32") for _ in range(blocks)] for _ in range(rows)]
        places = list(itertools.product(range(rows), range(blocks)))
        with T.If(start == 0):
            with T.Then():
                for i, j in places:
                    registers[i][j].clear(T.float32(0.0))
            with T.Else():
                for i, j in places:
                    registers[i][j].set(load(sums, [row + i, j, 0]))
        with T.serial(0, length) as k:
            weights = [let(load(self.weight, [block + j, start + k, 0])) for j in range(blocks)]
            for i, row_registers in enumerate(registers):
                value = let(splat(self.x[row + i, start + k]))
                for weight, register in zip(weights, row_registers, strict=True):
                    register.set(register.value + value * weight)
        for i, j in places:
            store(sums, [row + i, j, 0], registers[i][j].value)
