"""Weights of few bits in the forms that ONNX Runtime has kernels for: numbers only, no graph.

| form | kernel | bytes a weight | exact |
|---|---|---|---|
| codes in blocks | MatMulNBits, GatherBlockQuantized | bits / 8, and scales | integers in groups of a multiple of 16 |
| a grid of int8 in blocks | the same with 8 bits | 1, and scales | levels that are multiples of one step |
| int8 columns | DynamicQuantizeMatMul | 1 | no: one scale an output, about 40 dB |

Groups that are no power of two are cut into blocks that are (96 = 3 x 32), each with the group's scale.  Blocks are 128
at most: MatMulNBits rounds activations per block too, and larger ones gain no speed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from qcompiler.backends.onnxruntime.low_bit_weight import Bytes, Floats, LowBitWeight
from qcompiler.numerics.formats.blocks import for_each
from qcompiler.numerics.formats.packing import pack_groups, pack_zero_points
from qcompiler.numerics.weights import quantize_weight

Number = TypeVar("Number", np.float32, np.uint8)

SMALLEST_BLOCK, LARGEST_BLOCK = 16, 128
TWO_BIT_BLOCKS = (32, 64, 128)
"""2-bit codes in blocks of 16 or 256 have no integer kernel: they run at a fiftieth of the speed."""

_CHUNK_WEIGHTS = 1 << 18
"""Weights expanded at a time on one core: 1 MiB of float32."""
_CHUNK_OUTPUTS = 64
"""At the least: neighbours in memory once codes are transposed."""

_GRID = 127


@dataclass(frozen=True)
class Blocks:
    """A weight as MatMulNBits reads it.

    Attributes:
        data: ``[N, G, block * bits / 8]`` uint8.
        scales: ``[N, G]`` float32.
        zero_points: ``[N, ceil(G * bits / 8)]`` uint8, or None for the middle code.
        minimum: ``[N, G]`` float32 that the kernel leaves out: to be subtracted from every weight of a block.
        rows: K.
    """

    bits: int
    block: int
    data: Bytes
    scales: Floats
    zero_points: Bytes | None
    rows: int
    minimum: Floats | None = None


def block_of(group: int, rows: int) -> int | None:
    """Largest block that cuts groups evenly, or None where 16 does not; a single group has any block."""
    if group >= rows:
        return LARGEST_BLOCK
    largest = group & -group
    return min(largest, LARGEST_BLOCK) if largest >= SMALLEST_BLOCK else None


def exact_blocks(weight: LowBitWeight) -> Blocks | None:
    """The codes as they are, or None where the kernel cannot say what they stand for."""
    block = block_of(weight.group, weight.rows)
    if weight.table is not None or block is None:
        return None
    if weight.minimum is not None and weight.rows % block:
        return None
    bits = 4 if weight.bits == 2 and block not in TWO_BIT_BLOCKS else weight.bits
    codes, zero, minimum = weight.codes, weight.zero_point, weight.minimum
    if bits > weight.bits and zero is None and minimum is None:
        codes = codes + np.uint8((1 << (bits - 1)) - weight.middle)
    scales = _per_block(weight.scale, weight, block)
    middle = np.float32(1 << (bits - 1))
    if (
        minimum is not None
    ):  # codes lie around the middle: what an activation's rounding adds grows with their mean
        shift = np.uint8(middle) - (np.uint8(codes.max(initial=0)) + np.uint8(1)) // np.uint8(2)
        codes = codes + shift
        minimum = _per_block(minimum, weight, block) - scales * (middle - np.float32(shift))
        zero = None
    points = None if zero is None else pack_zero_points(_per_block(zero, weight, block).T, bits)
    data = pack_groups(codes.T, bits, block, padding=int(middle))
    return Blocks(bits, block, data, scales, points, weight.rows, minimum)


def grid_blocks(weight: LowBitWeight) -> Blocks:
    """The weight on a grid of int8 in every block: exact where all levels are multiples of one step."""
    block = block_of(weight.group, weight.rows) or 32
    if weight.table is not None and block_of(weight.group, weight.rows) is not None:
        levels, step = _grid_of_levels(weight.table)
        if levels is not None:
            scales = _per_block(weight.scale, weight, block) * step
            codes = (levels.astype(np.int16) + 128).astype(np.uint8)[weight.codes]
            return Blocks(8, block, pack_groups(codes.T, 8, block, padding=128), scales, None, weight.rows)
    count = -(-weight.rows // block)
    data = np.empty((weight.outputs, count, block), np.uint8)
    scales = np.empty((weight.outputs, count), np.float32)
    for outputs in _chunks(weight):
        values = weight.values(outputs)
        padded = np.zeros((len(values), count * block), np.float32)
        padded[:, : weight.rows] = values
        rows, found = quantize_weight(padded.reshape(-1, block), 0, _GRID, half_scales=True)
        data[outputs] = (rows.astype(np.int16) + 128).astype(np.uint8).reshape(-1, count, block)
        scales[outputs] = found.reshape(-1, count)
    return Blocks(8, block, data, scales, None, weight.rows)


def int8_columns(weight: LowBitWeight, largest_code: int) -> tuple[npt.NDArray[np.int8], Floats]:
    """int8 codes ``[K, N]`` with one scale ``[N]`` an output, made of what the codes stand for."""
    codes = np.empty((weight.rows, weight.outputs), np.int8)
    scale = np.empty(weight.outputs, np.float32)

    def fill(outputs: slice) -> None:
        rows, scale[outputs] = quantize_weight(weight.values(outputs), 0, largest_code, half_scales=True)
        codes[:, outputs] = rows.T

    for_each(_chunks(weight), fill)
    return codes, scale


def _chunks(weight: LowBitWeight) -> list[slice]:
    step = max(_CHUNK_OUTPUTS, _CHUNK_WEIGHTS // max(weight.rows, 1))
    return [slice(first, first + step) for first in range(0, weight.outputs, step)]


def _per_block(array: npt.NDArray[Number], weight: LowBitWeight, block: int) -> npt.NDArray[Number]:
    """``[N, groups]`` repeated for every block: ``[N, ceil(K / block)]``."""
    index = np.arange(0, weight.rows, block) // weight.group
    return np.ascontiguousarray(array[:, index])


def _grid_of_levels(table: Floats) -> tuple[npt.NDArray[np.int8] | None, np.float32]:
    """Levels as multiples of a step: of the largest that fits all, else of a 127th of the largest level.

    Returns None for the levels where such a grid would lose the small ones (float8 spans five decades).
    """
    largest = np.abs(table).max(initial=0.0)
    if largest == 0.0 or len(table) > _GRID:
        return None, np.float32(1.0)
    for count in range(1, _GRID + 1):
        multiples = table * np.float32(count / largest)
        if np.abs(multiples - np.rint(multiples)).max() < 1e-4:
            break
    return np.rint(multiples).astype(np.int8), np.float32(largest / count)
