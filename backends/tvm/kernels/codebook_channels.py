"""Product with weights that are one of 16 float values of their channel, as SqueezeLLM stores them (arXiv 2306.07629).

    y[m, n] = sum_k x[m, k] * table[n, code[k, n]], and an epilogue

A channel's table is a register, and 16 of its weights are looked up in it at once (``vpermps``), exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.codebook_loops import TOGETHER, add_up, side_by_side
from qcompiler.backends.tvm.kernels.epilogue import PLAIN_RESULT, Epilogue, Writer
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    PrimFunc,
    T,
    build,
    intrinsic,
    joined,
    let,
    load,
    parameter,
    part,
    rows_parameter,
    splat,
    store,
)

ENTRIES = 16
_CODES = 8
"""In an int32."""

DEPTH = LANES * _CODES
"""Weights of a channel in one vector of codes."""

_ROWS = {Variant.PLAIN: 1, Variant.AVX2: 2, Variant.AVX_VNNI: 2, Variant.AVX512_VNNI: 4}


@dataclass(frozen=True)
class CodebookChannels:
    """One kernel.

    Attributes:
        channels: N.
        depth: K.
        epilogue: what is done to the result.
        rows: of a tile; 0 for the variant's own.

    Parameters of the PrimFunc, in this order: ``x`` float32 ``[M, K]``; ``weight`` int32 ``[N/4, K/128, 4, 16]``
    and ``table`` float32 ``[N, 16]`` with N rounded up to 16, as :func:`pack` gives; those of the epilogue.
    """

    channels: int
    depth: int
    variant: Variant
    epilogue: Epilogue = PLAIN_RESULT
    rows: int = 0

    @property
    def padded(self) -> int:
        """Channels, rounded up."""
        return -(-self.channels // LANES) * LANES

    @property
    def steps(self) -> int:
        return -(-self.depth // DEPTH)


def pack(
    codes: npt.NDArray[np.uint8], table: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """``weight`` and ``table`` from codes ``[K, N]`` below 16 and up to 16 values ``[N, E]`` for each channel."""
    depth, channels = codes.shape
    more = -channels % LANES
    padded = np.pad(codes.T, ((0, more), (0, -depth % DEPTH))).astype(np.uint32)
    parts = padded.reshape(channels + more, -1, _CODES, LANES)
    shifts = (4 * np.arange(_CODES, dtype=np.uint32))[:, None]
    weight = np.bitwise_or.reduce(parts << shifts, axis=2).view(np.int32)
    return side_by_side(weight), np.pad(table, ((0, more), (0, ENTRIES - table.shape[1]))).astype(np.float32)


def codebook_channels(spec: CodebookChannels, name: str = "codebook_channels") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _body(spec))


def _body(spec: CodebookChannels) -> None:
    rows = rows_parameter()
    x = parameter("x", (rows, spec.depth), "float32")
    weight = parameter("weight", (spec.padded // TOGETHER, spec.steps, TOGETHER, LANES), "int32")
    table = parameter("table", (spec.padded, ENTRIES), "float32")
    writer = Writer(spec.epilogue, rows, spec.channels)
    weights = _Weights(spec.variant, weight, table)
    add_up(weights, x, rows, (spec.depth, spec.channels), spec.rows or _ROWS[spec.variant], writer.write)


class _Weights:
    """Codes of 4 bits in int32, and the tables."""

    depth = DEPTH

    def __init__(self, variant: Variant, weight: Buffer, table: Buffer) -> None:
        self._variant, self._weight, self._table = variant, weight, table

    def open_channel(self, channel: Expr) -> Expr:
        return channel if self._variant is Variant.PLAIN else let(load(self._table, [channel, 0]))

    def open_step(self, group: Expr, member: int, step: Expr) -> Expr:
        return let(load(self._weight, [group, step, member, 0]))

    def values(self, kept: Expr, codes: Expr, part: int) -> Expr:
        index = T.shift_right(codes, splat(T.int32(4 * part))) if part else codes
        match self._variant:
            case Variant.AVX512_VNNI:
                return intrinsic("llvm.x86.avx512.permvar.sf.512", "float32x16", kept, index)
            case Variant.AVX2 | Variant.AVX_VNNI:
                return _by_halves(kept, let(index))
            case Variant.PLAIN:
                return self._one_by_one(kept, index)

    def _one_by_one(self, channel: Expr, index: Expr) -> Expr:
        places, values = T.alloc_buffer((LANES,), "int32"), T.alloc_buffer((LANES,), "float32")
        store(places, [0], T.bitwise_and(index, splat(T.int32(ENTRIES - 1))))
        with T.serial(0, LANES) as lane:
            T.buffer_store(values, self._table[channel, places[lane]], [lane])
        return load(values, [0])


def _by_halves(table: Expr, index: Expr) -> Expr:
    """Registers of 8: both halves of the table are looked up, and bit 3 chooses."""
    half, found = LANES // 2, []
    for place in range(2):
        codes = let(part(index, half * place, half))
        low, high = (
            intrinsic("llvm.x86.avx2.permps", "float32x8", part(table, half * side, half), codes)
            for side in range(2)
        )
        upper = T.bitwise_and(codes, splat(T.int32(half), half)) != splat(T.int32(0), half)
        found.append(T.Select(upper, high, low))
    return joined(found, LANES)
