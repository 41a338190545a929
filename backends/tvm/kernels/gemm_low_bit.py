"""Product with weights of 2, 4 or 8 bits in groups along K, whose activations are rounded to int8 per row and group.

    w[k, n] = scale[g, n] * (level[k, n] - offset) or scale[g, n] * level[k, n] - minimum[g, n]
    y[m, n] = sum_g x_scale[m, g] * scale[g, n] * (sum_k level[k, n] * a[m, k] - offset * sum_k a[m, k])

A level is the code itself or an entry of a table of 16 bytes, so one kernel serves int4, uint4, nf4 rounded to int8,
fp4 and mxfp4 (levels doubled, which makes them integers), and 2-bit formats.  The table is looked up in a register
(``pshufb``).  Levels are unsigned and activations signed, as VNNI wants it; the offset comes off with the sum of a
group's activations, which costs nothing per weight.  A byte holds neighbouring steps of K for the same channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial, reduce
from operator import add

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.dot_product import (
    DEPTH,
    STEP,
    accumulator_lanes,
    dot_product,
    four_everywhere,
    total,
)
from qcompiler.backends.tvm.kernels.epilogue import PLAIN_RESULT, Epilogue, Writer
from qcompiler.backends.tvm.kernels.look_up import TABLE, look_up
from qcompiler.backends.tvm.kernels.low_bit_tiles import FEW_ROWS, OnTiles
from qcompiler.backends.tvm.kernels.quantize_groups import GroupCodes
from qcompiler.backends.tvm.kernels.tiling import Tile, each_chunk, each_stream, each_tile
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
    parameter,
    prefetch,
    rows_parameter,
    splat,
)

TILES = {
    Variant.PLAIN: Tile(2, 1),
    Variant.AVX2: Tile(2, 1),
    Variant.AVX_VNNI: Tile(2, 1),
    Variant.AVX512_VNNI: Tile(3, 4),
    Variant.AMX_INT8: Tile(3, 4),
}
"""12 sums and 12 results are all that 32 registers hold beside the operands.  For AMX those of few rows."""

STREAMED = 4
"""Fewer rows wait for memory, more for the multipliers."""

FOUR = Tile(4, 3)
"""Of exactly four rows: three and one would read the weights twice."""

AHEAD = 64
"""Packed vectors, 4 KB, by which weights are asked for before they are read: found by trying 16, 32, 64 and 96."""


@dataclass(frozen=True)
class GemmLowBit:
    """One kernel.

    Attributes:
        channels: N.
        depth: K.
        bits: 2, 4 or 8.
        group: weights along K that share a scale: a multiple of ``32 / bits`` and of 16.
        offset: level of the weight 0; without effect where there is a minimum.
        table: levels are looked up: one more parameter.
        minimum: each group has a minimum: one more parameter.
        epilogue: what is done to the result.
        tile: None for the variant's own.

    Parameters of the PrimFunc, in this order: ``x`` float32 ``[M, K]``; ``weight`` uint8 ``[N/16, V, 64]``, ``scale``
    float32 ``[N/16, G, 16]`` and ``minimum``, the same, as :func:`pack` gives; ``table`` uint8 ``[64]``; those of the
    epilogue.
    """

    channels: int
    depth: int
    bits: int
    group: int
    variant: Variant
    offset: int = 0
    table: bool = False
    minimum: bool = False
    epilogue: Epilogue = PLAIN_RESULT
    tile: Tile | None = None

    @property
    def groups(self) -> int:
        return -(-self.depth // self.group)

    @property
    def steps(self) -> int:
        """Steps of K in a packed vector."""
        return 8 // self.bits

    @property
    def vectors(self) -> int:
        """Packed vectors in a group."""
        return self.group // (DEPTH * self.steps)


def pack(codes: npt.NDArray[np.uint8], bits: int, group: int) -> npt.NDArray[np.uint8]:
    """Codes ``[K, N]`` to ``[N/16, V, 64]``: the lowest bits of a byte are the first of its steps."""
    depth, channels = codes.shape
    steps = 8 // bits
    padded = np.pad(codes, ((0, -depth % group), (0, -channels % LANES)))
    blocks, vectors = padded.shape[1] // LANES, padded.shape[0] // (DEPTH * steps)
    parts = padded.reshape(vectors, steps, DEPTH, blocks, LANES).transpose(1, 3, 0, 4, 2)
    packed = np.zeros((blocks, vectors, LANES, DEPTH), np.uint8)
    for index, part in enumerate(parts):
        packed |= part << np.uint8(bits * index)
    return packed.reshape(blocks, vectors, STEP)


def pack_groups(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``[G, N]`` to ``[N/16, G, 16]``, missing channels 0."""
    padded = np.pad(values, ((0, 0), (0, -values.shape[1] % LANES)))
    blocks = padded.reshape(len(values), -1, LANES).transpose(1, 0, 2)
    return np.ascontiguousarray(blocks, np.float32)


def pack_table(levels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Up to 16 levels, repeated for every 16 bytes of a vector."""
    return np.tile(np.pad(levels, (0, TABLE - len(levels))), STEP // TABLE)


def gemm_low_bit(spec: GemmLowBit, name: str = "gemm_low_bit") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _Gemm(spec).body())


class _Gemm:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: GemmLowBit) -> None:
        self.spec = spec
        self.rows = rows_parameter()
        blocks, groups = -(-spec.channels // LANES), spec.groups
        self.x = parameter("x", (self.rows, spec.depth), "float32")
        self.weight = parameter("weight", (blocks, groups * spec.vectors, STEP), "uint8")
        self.scale = parameter("scale", (blocks, groups, LANES), "float32")
        self.minimum = parameter("minimum", (blocks, groups, LANES), "float32") if spec.minimum else None
        self.table = parameter("table", (STEP,), "uint8") if spec.table else None
        self.writer = Writer(spec.epilogue, self.rows, spec.channels)

    def body(self) -> None:
        spec = self.spec
        self.codes = T.alloc_buffer((self.rows, spec.groups * spec.group), "int8")
        self.x_scale = T.alloc_buffer((self.rows, spec.groups), "float32")
        self.x_total = T.alloc_buffer((self.rows, spec.groups), "int32")
        GroupCodes(self.x, self.codes, self.x_scale, self.x_total, spec.group, spec.depth).quantize(self.rows)
        if spec.variant is not Variant.AMX_INT8:
            self._on_vectors()
            return
        with T.If(self.rows < FEW_ROWS):
            with T.Then():
                self._on_vectors()
            with T.Else():
                OnTiles(self, spec.group, spec.steps).emit(spec.channels)

    def _on_vectors(self) -> None:
        tile, channels = self.spec.tile or TILES[self.spec.variant], self.spec.channels
        with T.If(self.rows < STREAMED):
            with T.Then():
                each_stream(STREAMED, self.rows, channels, partial(self._tile, ahead=AHEAD))
            with T.Else():
                if tile != TILES[Variant.AVX512_VNNI]:
                    each_tile(tile, self.rows, channels, self._tile)
                    return
                with T.If(self.rows == FOUR.rows):
                    with T.Then():
                        each_chunk(FOUR.blocks, channels, partial(self._tile, T.int32(0), FOUR.rows))
                    with T.Else():
                        each_tile(tile, self.rows, channels, self._tile)

    def _tile(self, row: Expr, rows: int, block: Expr, valid: list[int], ahead: int = 0) -> None:
        """Rows by blocks, whose weights are asked for so many packed vectors ahead.

        Of few rows each step of K has sums of its own: with one for all, products wait for each other, not for memory.
        """
        variant = self.spec.variant
        chains = self.spec.steps if ahead and variant.vectors is Variant.AVX512_VNNI else 1
        results = [[Register("float32") for _ in valid] for _ in range(rows)]
        sums = [
            [[Register("int32", accumulator_lanes(variant)) for _ in range(chains)] for _ in valid]
            for _ in range(rows)
        ]
        _clear(results, T.float32(0.0))
        with T.serial(0, self.spec.groups) as group:
            for row_sums in sums:
                _clear(row_sums, T.int32(0))
            with T.serial(0, self.spec.vectors) as vector:
                place = group * self.spec.vectors + vector
                if ahead and variant is not Variant.PLAIN:
                    prefetch(self.weight, [block, place + ahead, 0])
                self._add_vector(row, block, place, sums)
            if ahead and variant is not Variant.PLAIN:
                prefetch(self.scale, [block, group + -(-ahead // self.spec.vectors), 0])
            for i, (row_sums, row_results) in enumerate(zip(sums, results, strict=True)):
                for j, (registers, result) in enumerate(zip(row_sums, row_results, strict=True)):
                    exact = total(variant, reduce(add, [register.value for register in registers]))
                    result.set(result.value + self.scaled(row + i, block + j, group, exact))
        values = [[result.value for result in row_results] for row_results in results]
        self.writer.write_tile(row, block, values, valid)

    def _add_vector(self, row: Expr, block: Expr, vector: Expr, sums: list[list[list[Register]]]) -> None:
        spec = self.spec
        packed = [let(load(self.weight, [block + j, vector, 0], STEP)) for j in range(len(sums[0]))]
        for step in range(spec.steps):
            levels = [let(self.levels(bytes_, step)) for bytes_ in packed]
            for i, row_sums in enumerate(sums):
                place = [row + i, (vector * spec.steps + step) * DEPTH]
                codes = let(four_everywhere(load(self.codes, place, DEPTH)))
                for level, registers in zip(levels, row_sums, strict=True):
                    register = registers[step % len(registers)]
                    register.set(dot_product(spec.variant, register.value, level, codes))

    def levels(self, packed: Expr, step: int) -> Expr:
        """uint8 x 64: the weights of one step of K."""
        bits = self.spec.bits
        if bits == 8:
            return packed
        shifted = T.shift_right(packed, splat(T.uint8(bits * step), STEP)) if step else packed
        codes = T.bitwise_and(shifted, splat(T.uint8((1 << bits) - 1), STEP))
        return codes if self.table is None else look_up(self.spec.variant, self.table, codes)

    def scaled(self, row: Expr, block: Expr, group: Expr, exact: Expr) -> Expr:
        """float32 x 16: what the sums of a group add to the result."""
        x_scale, x_total = self.x_scale[row, group], self.x_total[row, group]
        scale = load(self.scale, [block, group, 0])
        if self.minimum is None:
            level = exact - splat(x_total * T.int32(self.spec.offset)) if self.spec.offset else exact
            return cast(level, "float32") * (splat(x_scale) * scale)
        below = splat(cast(x_total, "float32", 1)) * load(self.minimum, [block, group, 0])
        return splat(x_scale) * (cast(exact, "float32") * scale - below)


def _clear(registers: list[list[Register]], zero: Expr) -> None:
    for row in registers:
        for register in row:
            register.clear(zero)
