"""How a constant of a quantized model is stored: codes, scales, and along which axis they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.numerics.affine import along_axis, dequantize

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]

CODE_TYPES = frozenset(
    {ir.DataType[f"{sign}INT{bits}"] for sign in ("", "U") for bits in (2, 4, 8, 16)} | {ir.DataType.INT32}
)


@dataclass(frozen=True)
class Stored:
    """The codes of one constant.

    Attributes:
        kind: in words: ``int8 per channel``, ``uint4 in blocks of 32``, ``nf4``.
        bits: of a code.
        codes: as they are stored, in the layout of the dequantized constant; None where only a kernel can read them.
        scale: float32, 0-D, 1-D along ``axis`` or blocked; None without ``codes``.
        zero_point: like ``scale``, int32.
        axis: of ``scale``; None for one scale.
        block_size: codes that share a scale along ``axis``; 0 for all.
        limits: smallest and largest code, None where codes are no integers.
    """

    kind: str
    bits: int
    codes: Array | None = None
    scale: Floats | None = None
    zero_point: Array | None = None
    axis: int | None = None
    block_size: int = 0
    limits: tuple[int, int] | None = None

    def values(self, axis: int | None = None) -> Floats | None:
        """What the codes stand for, along another axis if one is given; None where they do not fit."""
        if self.codes is None or self.scale is None:
            return None
        axis = self.axis if axis is None else axis
        zero = np.zeros((), np.int32) if self.zero_point is None else self.zero_point
        if self.scale.ndim == 0 or self.scale.size == 1:
            return dequantize(self.codes, self.scale.reshape(()), zero.reshape(-1)[:1].reshape(()))
        if axis is None or (self.scale.ndim == 1 and self.scale.size != self.codes.shape[axis]):
            return None
        if self.scale.ndim > 1:
            index = np.arange(self.codes.shape[axis]) // max(self.block_size, 1)
            zero = np.take(zero, index, axis) if zero.ndim else zero
            return dequantize(self.codes, np.take(self.scale, index, axis), zero)
        zero = along_axis(zero, axis, self.codes.ndim) if zero.size > 1 else zero.reshape(())
        return dequantize(self.codes, along_axis(self.scale, axis, self.codes.ndim), zero)


def integer_kind(dtype: ir.DataType, axis: int | None, block_size: int = 0) -> str:
    """``uint4 in blocks of 32``, ``int8 per channel``."""
    if block_size:
        return f"{dtype.name.lower()} in blocks of {block_size}"
    return f"{dtype.name.lower()} per {'tensor' if axis is None else 'channel'}"


def stored_integers(
    codes: ir.TensorProtocol, scale: Array, zero_point: Array | None, axis: int | None, block_size: int = 0
) -> Stored:
    """Integer codes with scales and zero points, as DequantizeLinear and the integer operators read them."""
    bits = codes.dtype.bitwidth
    signed = codes.dtype.name.startswith("INT")
    limits = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    array = codes.numpy()
    wide = array.astype(np.int32) if array.dtype.itemsize < 2 or array.dtype.kind not in "iu" else array
    zero = None if zero_point is None else np.asarray(zero_point).astype(np.int32)
    scale = np.asarray(scale, np.float32)
    if scale.size == 1 and not block_size:
        axis = None
    return Stored(
        integer_kind(codes.dtype, axis, block_size),
        bits,
        wide,
        scale,
        zero,
        axis % array.ndim if axis is not None and array.ndim else axis,
        block_size,
        limits,
    )


@dataclass(frozen=True)
class Lifted:
    """A quantized model in one form: float operators, float constants, and quantizers of activations apart.

    Attributes:
        model: QuantizeLinear and DequantizeLinear stand at activations only, unless an operator is unknown.
        stored: how the constants are stored in the file, by the name of the float constant that stands for it.
        opaque: operators that were left as they are.
    """

    model: ir.Model
    stored: Mapping[str, Stored] = field(default_factory=dict)
    opaque: tuple[str, ...] = ()
