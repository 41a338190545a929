"""uint8 x int8 matrix product with one scale an output channel; its activation is quantized in the same kernel.

    y[m, n] = (sum_k (a[m, k] - zero) * w[k, n]) * scale * w_scale[n], and an epilogue

``a`` are uint8 codes of ``x``; ``zero * sum_k w`` is taken off after the sum.  Weights are stored once for all
variants: ``[N / 16, K / 4, 16, 4]``, which is also what AMX reads.  The number of rows is known only at the call.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels import amx
from qcompiler.backends.tvm.kernels.dot_product import (
    DEPTH,
    STEP,
    accumulator_lanes,
    dot_product,
    four_everywhere,
    total,
)
from qcompiler.backends.tvm.kernels.epilogue import PLAIN_RESULT, Epilogue, Writer, pack_channels
from qcompiler.backends.tvm.kernels.quantize import RowCodes
from qcompiler.backends.tvm.kernels.tiling import Tile, each_tile
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
    load,
    parameter,
    prefetch,
    rows_parameter,
    splat,
)

Activation = Literal["dynamic", "rows", "static", "codes"]


TILES = {
    Variant.PLAIN: Tile(2, 1),
    Variant.AVX2: Tile(2, 1),
    Variant.AVX_VNNI: Tile(2, 2),
    Variant.AVX512_VNNI: Tile(6, 4),
    Variant.AMX_INT8: Tile(6, 4),
}
"""For AMX those of few rows."""


@dataclass(frozen=True)
class GemmInt8:
    """One kernel.

    Attributes:
        channels: N.
        depth: K.
        activation: how it becomes codes: by the range of the whole input (DynamicQuantizeLinear), of each row, by
            a scale and zero point that are parameters (QuantizeLinear), or it comes as codes already.
        epilogue: what is done to the result.
        tile: None for the variant's own.

    Parameters of the PrimFunc, in this order: ``x`` float32 or uint8 ``[M, K]``; ``x_scale`` float32 ``[1]`` and
    ``x_zero`` int32 ``[1]`` (static, codes); ``weight`` int8 ``[N/16, K/4, 64]``, ``w_scale`` float32 and ``w_sum``
    int32 ``[N/16, 16]`` as :func:`pack` gives; those of the epilogue.
    """

    channels: int
    depth: int
    variant: Variant
    activation: Activation = "dynamic"
    epilogue: Epilogue = PLAIN_RESULT
    tile: Tile | None = None

    @property
    def blocks(self) -> int:
        return -(-self.channels // LANES)

    @property
    def steps(self) -> int:
        return -(-self.depth // DEPTH)


@dataclass(frozen=True)
class Packed:
    """A weight as the kernel reads it.

    Attributes:
        weight: int8 ``[N/16, K/4, 64]``, missing channels and rows 0.
        scale: float32 ``[N/16, 16]``.
        total: int32 ``[N/16, 16]``, the sum of each channel's codes.
    """

    weight: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    total: npt.NDArray[np.int32]


def pack(codes: npt.NDArray[np.int8], scale: npt.NDArray[np.float32]) -> Packed:
    """Pack codes ``[K, N]`` with a scale ``[N]`` a channel."""
    depth, channels = codes.shape
    padded = np.pad(codes, ((0, -depth % DEPTH), (0, -channels % LANES)))
    steps, blocks = padded.shape[0] // DEPTH, padded.shape[1] // LANES
    weight = padded.reshape(steps, DEPTH, blocks, LANES).transpose(2, 0, 3, 1).reshape(blocks, steps, STEP)
    total = padded.sum(0, dtype=np.int32).reshape(blocks, LANES)
    return Packed(np.ascontiguousarray(weight), pack_channels(scale), total)


def gemm_int8(spec: GemmInt8, name: str = "gemm_int8") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _Gemm(spec).body())


class _Gemm:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: GemmInt8) -> None:
        self.spec = spec
        self.tile = spec.tile or TILES[spec.variant]
        self.rows = rows_parameter()
        blocks, per_tensor = spec.blocks, spec.activation in ("static", "codes")
        kind = "uint8" if spec.activation == "codes" else "float32"
        self.x = parameter("x", (self.rows, spec.depth), kind)
        self.scale: Buffer = parameter("x_scale", (1,), "float32") if per_tensor else None
        self.zero: Buffer = parameter("x_zero", (1,), "int32") if per_tensor else None
        self.weight = parameter("weight", (blocks, spec.steps, STEP), "int8")
        self.w_scale = parameter("w_scale", (blocks, LANES), "float32")
        self.w_sum = parameter("w_sum", (blocks, LANES), "int32")
        self.writer = Writer(spec.epilogue, self.rows, spec.channels)

    def body(self) -> None:
        self.codes = self._codes()
        if self.spec.variant is not Variant.AMX_INT8:
            each_tile(self.tile, self.rows, self.spec.channels, self._tile)
            return
        with T.If(self.rows < amx.FEW_ROWS):
            with T.Then():
                each_tile(self.tile, self.rows, self.spec.channels, self._tile)
            with T.Else():
                amx.each_pair(self.rows, self.spec.channels, self._rows_on_tiles, self._make_room)

    def _codes(self) -> Buffer:
        """The activation as codes with rows that are whole steps; sets scale and zero point where they are dynamic."""
        spec = self.spec
        if spec.activation == "codes" and spec.depth % DEPTH == 0:
            return self.x
        codes = T.alloc_buffer((self.rows, -(-spec.depth // STEP) * STEP), "uint8")
        if spec.activation == "codes":
            with T.serial(0, self.rows) as row, T.serial(0, spec.depth) as column:
                T.buffer_store(codes, self.x[row, column], [row, column])
            return codes
        each = spec.activation == "rows"
        if self.scale is None:
            self.scale = T.alloc_buffer((self.rows if each else 1,), "float32")
            self.zero = T.alloc_buffer((self.rows if each else 1,), "int32")
        rows = RowCodes(self.x, codes, self.scale, self.zero, spec.depth)
        if spec.activation != "static":
            rows.range_of_rows(self.rows, each=each)
        rows.quantize(self.rows, each=each)
        return codes

    def _tile(self, row: Expr, rows: int, block: Expr, valid: list[int]) -> None:
        """Sum up and write.

        Whole tiles also ask for the weights of the next blocks, a block with each tile of rows.  Few rows have no time
        for that: they wait for their own; and slower multipliers need none.
        """
        variant, count = self.spec.variant, len(valid)
        following = let(block + count + T.min(T.floordiv(row, self.tile.rows), count - 1))
        lanes = accumulator_lanes(variant)
        sums = [[Register("int32", lanes) for _ in valid] for _ in range(rows)]
        for register in itertools.chain(*sums):
            register.clear(T.int32(0))
        with T.serial(0, self.spec.steps) as step:
            if rows == self.tile.rows and variant.vectors is Variant.AVX512_VNNI:
                prefetch(self.weight, [following, step, 0], soon=False)
            weights = [let(load(self.weight, [block + i, step, 0], STEP)) for i in range(len(valid))]
            for index, registers in enumerate(sums):
                codes = let(four_everywhere(load(self.codes, [row + index, step * DEPTH], DEPTH)))
                for weight, register in zip(weights, registers, strict=True):
                    register.set(dot_product(variant, register.value, codes, weight))
        results = [
            [
                self._result(row + index, block + i, total(variant, register.value))
                for i, register in enumerate(registers)
            ]
            for index, registers in enumerate(sums)
        ]
        self.writer.write_tile(row, block, results, valid)

    def _make_room(self, block: Expr, valid: list[int]) -> None:
        del block, valid
        self.waiting = amx.sums_buffer()

    def _rows_on_tiles(self, row: Expr, tiles: int, block: Expr, valid: list[int]) -> None:
        sums, row_bytes = amx.Sums("tdpbusd", tiles, len(valid)), int(self.codes.shape[-1])
        with T.serial(0, self.spec.steps // amx.STEPS) as index:
            sums.add(
                lambda tile: self.codes[row + tile * amx.ROWS, index * amx.ROW_BYTES],
                row_bytes,
                lambda tile: self.weight[block + tile, index * amx.STEPS, 0],
            )
        sums.write(self.waiting)

        def finish(index: Expr, column: Expr, lanes: int) -> None:
            place, channels = row + index, block + column
            exact = self._with_rest(place, channels, load(self.waiting, [index, column * LANES]))
            self.writer.write(place, channels, self._result(place, channels, exact), lanes)

        amx.each_value(amx.rows_of(tiles, self.rows), valid, finish)

    def _with_rest(self, row: Expr, block: Expr, sums: Expr) -> Expr:
        """Sums of all that fills tiles, and of what is left along K."""
        variant, first = self.spec.variant, self.spec.steps // amx.STEPS * amx.STEPS
        if first == self.spec.steps:
            return sums
        found = Register("int32")
        found.set(sums)
        with T.serial(first, self.spec.steps) as step:
            codes = four_everywhere(load(self.codes, [row, step * DEPTH], DEPTH))
            found.set(dot_product(variant, found.value, codes, load(self.weight, [block, step, 0], STEP)))
        return found.value

    def _result(self, row: Expr, block: Expr, sums: Expr) -> Expr:
        place = row if self.spec.activation == "rows" else 0
        exact = sums - splat(self.zero[place]) * load(self.w_sum, [block, 0])
        scale = splat(self.scale[place]) * load(self.w_scale, [block, 0])
        return cast(exact, "float32") * scale
