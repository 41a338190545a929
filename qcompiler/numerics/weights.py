"""Symmetric integer codes for weights, per tensor or per channel, clipped to least squares if asked."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.affine import SMALLEST_SCALE, Float32, along_axis, quantize

CLIP_STEPS = 41
LEAST_CLIP = 0.6
"""The search looks at 41 ranges from 60 % of the largest magnitude up to all of it."""


def quantize_weight(
    weight: Float32,
    axis: int | None,
    largest_code: int,
    *,
    clip_mse: bool = False,
    half_scales: bool = False,
    least_scale: Float32 | None = None,
) -> tuple[npt.NDArray[np.int8], Float32]:
    """Round a weight to symmetric codes in ``[-largest_code, largest_code]``.

    Args:
        weight: any shape.
        axis: the channel axis, or None for one scale.
        largest_code: 127 for 8 bits, 63 for 7.
        clip_mse: choose each scale for least squared error instead of the largest magnitude.
        least_scale: smallest scale allowed, ``[C]`` or 0-D.
        half_scales: round scales up to what float16 holds exactly, where all of them are in its range.

    Returns:
        int8 codes of the weight's shape, and float32 scales: ``[C]``, or 0-D where ``axis`` is None.
    """
    channels = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0)
    rows = np.ascontiguousarray(channels).reshape(channels.shape[0], math.prod(channels.shape[1:]))
    scale = np.maximum(np.abs(rows).max(axis=1, initial=0.0) / largest_code, SMALLEST_SCALE)
    scale = scale.astype(np.float32)
    if clip_mse:
        scale = _least_squares_scale(rows, scale, largest_code)
    if least_scale is not None:
        scale = np.maximum(scale, least_scale)
    if half_scales:
        scale = _representable_in_half(scale)
    shaped = scale.reshape(()) if axis is None else scale
    factor = shaped if axis is None else along_axis(scale, axis, weight.ndim)
    return quantize(weight, factor, 0, (-largest_code, largest_code)).astype(np.int8), shaped


def _representable_in_half(scale: Float32) -> Float32:
    """The next float16 at or above each scale; unchanged if any lies outside float16's normal range.

    The scale of a channel of zeros says nothing, and counts as the smallest of that range.
    """
    limits = np.finfo(np.float16)
    scale = np.where(scale <= SMALLEST_SCALE, np.float32(limits.tiny), scale)  # NaN stays
    if scale.min(initial=np.inf) < limits.tiny or scale.max(initial=0.0) > limits.max / 2:
        return scale
    half = scale.astype(np.float16)
    return np.where(half < scale, np.nextafter(half, np.float16(np.inf)), half).astype(np.float32)


def _least_squares_scale(rows: Float32, scale: Float32, largest_code: int) -> Float32:
    """Best of ``CLIP_STEPS`` shrunken scales per row, ``[C]``."""
    best_scale, best_error = scale.copy(), np.full(scale.shape, np.inf, dtype=np.float64)
    for shrink in np.linspace(1.0, LEAST_CLIP, CLIP_STEPS, dtype=np.float32):
        candidate = np.maximum(scale * shrink, np.float32(SMALLEST_SCALE))[:, None]
        codes = quantize(rows, candidate, 0, (-largest_code, largest_code))
        error = np.square(codes * candidate - rows, dtype=np.float64).sum(axis=1)
        better = error < best_error
        best_scale[better], best_error[better] = candidate[better, 0], error[better]
    return best_scale
