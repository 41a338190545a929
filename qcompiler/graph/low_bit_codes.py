"""Which type of ONNX tensor holds the codes of a format, and the codes in it.

| levels | container |
|---|---|
| consecutive integers of up to 2 bits | int2 or uint2 from opset 25 on, before that int4 or uint4 |
| of up to 4 bits (3 bits too: there is no such type) | int4 or uint4 |
| of up to 8 bits | int8 or uint8 |
| float8 e4m3 | float8e4m3fn |
| any others | uint4 or uint8, as an index into their table |
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from qcompiler.numerics.formats.base import Codes, Float32, Format

TWO_BIT_OPSET = 25
"""QuantizeLinear and DequantizeLinear take int2 and uint2 from here on."""

_SIGNED = {2: ir.DataType.INT2, 4: ir.DataType.INT4, 8: ir.DataType.INT8}
_UNSIGNED = {2: ir.DataType.UINT2, 4: ir.DataType.UINT4, 8: ir.DataType.UINT8}
_FLOAT8_LEVELS = 17
"""Float formats with fewer levels are stored as indices into a table."""


@dataclass(frozen=True)
class Container:
    """How the codes of one format are stored.

    Attributes:
        dtype: of the stored tensor.
        lowest: what is added to a code to make the stored integer.
        table: the levels that stored integers index, None where they are the levels themselves.
    """

    dtype: ir.DataType
    lowest: int = 0
    table: Float32 | None = None

    @property
    def bits(self) -> int:
        """Bits that one code takes in the file."""
        return int(self.dtype.bitwidth)


def container_of(stored: Format, opset: int) -> Container:
    """The container of a format's codes in a model of ``opset``."""
    levels = stored.levels
    lowest = int(levels[0]) if np.isfinite(levels[0]) else 0
    if np.array_equal(levels, np.arange(len(levels), dtype=np.float32) + lowest):
        highest = lowest + len(levels) - 1
        needed = _bits_of(max(2 * -lowest, 2 * highest + 2) if lowest < 0 else highest + 1)
        width = _width(needed, opset)
        return Container((_SIGNED if lowest < 0 else _UNSIGNED)[width], lowest)
    if len(levels) >= _FLOAT8_LEVELS and _is_float8(levels):
        return Container(ir.DataType.FLOAT8E4M3FN)
    return Container(_UNSIGNED[_width(max(4, _bits_of(len(levels))), opset)], 0, levels)


def code_tensor(codes: Codes, stored: Format, container: Container) -> ir.TensorProtocol:
    """``codes`` (indices of levels) as the tensor that goes into the file; types below a byte are packed."""
    if container.dtype == ir.DataType.FLOAT8E4M3FN:
        return ir.tensor(stored.levels[codes].astype(ml_dtypes.float8_e4m3fn))
    shifted = codes if container.lowest == 0 else (codes.astype(np.int16) + container.lowest).astype(np.int8)
    return integer_tensor(shifted, container.dtype)


def integer_tensor(
    values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], dtype: ir.DataType
) -> ir.TensorProtocol:
    """Integers as a tensor of ``dtype``; types below a byte are held packed, as they are in the file."""
    if dtype.bitwidth == 8:
        return ir.tensor(np.ascontiguousarray(values.astype(dtype.numpy(), copy=False)))
    return ir.PackedTensor(_packed(values, dtype.bitwidth), dtype, shape=values.shape)


def _packed(values: np.ndarray[tuple[int, ...], np.dtype[np.generic]], bits: int) -> Codes:
    """Consecutive elements in one byte, the first in the lowest bits, as ONNX stores them."""
    share = 8 // bits
    flat = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    if flat.size % share:
        flat = np.concatenate([flat, np.zeros(-flat.size % share, np.uint8)])
    mask = np.uint8((1 << bits) - 1)
    packed = flat[0::share] & mask
    for place in range(1, share):
        packed |= (flat[place::share] & mask) << np.uint8(bits * place)
    return packed


def _bits_of(count: int) -> int:
    return max(1, int(count - 1).bit_length())


def _width(bits: int, opset: int) -> int:
    if bits <= 2:
        return 2 if opset >= TWO_BIT_OPSET else 4
    return 4 if bits <= 4 else 8


def _is_float8(levels: Float32) -> bool:
    finite = levels[np.isfinite(levels)]
    return bool(np.array_equal(finite.astype(ml_dtypes.float8_e4m3fn).astype(np.float32), finite))
