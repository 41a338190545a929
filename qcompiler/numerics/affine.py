"""Affine quantization as ONNX QuantizeLinear and DequantizeLinear define it.

``code = saturate(round_half_even(x / scale) + zero_point)``, ``x' = (code - zero_point) * scale``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]

SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Below this a scale is subnormal and ``x / scale`` overflows."""


def affine_parameters(low: float, high: float, code_range: tuple[int, int]) -> tuple[np.float32, int]:
    """Scale and zero point that cover ``[low, high]``, widened to hold zero exactly.

    Args:
        low: smallest value to represent.
        high: largest value to represent.
        code_range: smallest and largest code, inclusive.

    Returns:
        ``scale`` (float32, positive) and the integer ``zero_point`` inside ``code_range``.
    """
    smallest, largest = code_range
    low, high = min(float(low), 0.0), max(float(high), 0.0)
    scale = np.float32(max((high - low) / (largest - smallest), SMALLEST_SCALE))
    zero_point = round(smallest - low / float(scale))
    return scale, int(np.clip(zero_point, smallest, largest))


def symmetric_parameters(bound: float, code_range: tuple[int, int]) -> tuple[np.float32, int]:
    """Scale and middle zero point that cover ``[-bound, bound]``."""
    smallest, largest = code_range
    zero_point = (smallest + largest + 1) // 2
    scale = np.float32(max(abs(float(bound)) / (largest - zero_point), SMALLEST_SCALE))
    return scale, zero_point


def quantize(
    x: npt.NDArray[np.floating[Any]],
    scale: npt.ArrayLike,
    zero_point: npt.ArrayLike,
    code_range: tuple[int, int],
) -> npt.NDArray[np.int32]:
    """Codes of ``x``; ``scale`` and ``zero_point`` broadcast against it."""
    # Infinity saturates like any other value out of range; what NaN becomes is for the caller to refuse.
    with np.errstate(over="ignore", invalid="ignore"):
        codes = np.rint(x / np.asarray(scale, dtype=np.float32)) + np.asarray(zero_point)
        clipped: npt.NDArray[np.int32] = np.clip(codes, *code_range).astype(np.int32)
    return clipped


def dequantize(
    codes: npt.NDArray[np.integer[Any]], scale: npt.ArrayLike, zero_point: npt.ArrayLike = 0
) -> Float32:
    """Values of ``codes``; ``scale`` and ``zero_point`` broadcast against them."""
    centred = codes.astype(np.int32) - np.asarray(zero_point, dtype=np.int32)
    return centred.astype(np.float32) * np.asarray(scale, dtype=np.float32)


def along_axis(values: npt.NDArray[Any], axis: int, rank: int) -> npt.NDArray[Any]:
    """Reshape a vector so that it broadcasts along ``axis`` of an array of ``rank`` axes."""
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)
