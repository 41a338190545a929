"""Symmetric integer codes for weights, per tensor or per channel, clipped to least squares if asked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import EllipsisType

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.affine import SMALLEST_SCALE, Float32, along_axis, quantize

BLOCK_ELEMENTS = 1 << 22
"""So many elements are in work at a time: temporaries of a large weight would be several times its size."""

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
    largest = _largest_magnitudes(weight, axis)
    scale = np.maximum(largest / largest_code, SMALLEST_SCALE).astype(np.float32)
    if clip_mse:
        scale = _clipped(weight, axis, scale, largest_code)
    if least_scale is not None:
        scale = np.maximum(scale, least_scale)
    if half_scales:
        scale = _representable_in_half(scale)
    codes = np.empty(weight.shape, np.int8)
    factor = scale if axis is None else along_axis(scale, axis, weight.ndim)
    for part in _parts(weight):
        of_part = factor[part] if axis == 0 else factor
        rounded = quantize(weight[part], of_part, 0, (-largest_code, largest_code))
        codes[part] = np.asarray(rounded).astype(np.int8)
    return codes, scale


def _parts(weight: Float32) -> Iterator[slice | EllipsisType]:
    """Ranges of the first axis that hold about ``BLOCK_ELEMENTS`` each: what is computed at a time."""
    if weight.ndim == 0:
        yield ...
        return
    rows = max(1, BLOCK_ELEMENTS // max(1, math.prod(weight.shape[1:])))
    yield from (slice(start, start + rows) for start in range(0, weight.shape[0], rows))


def _largest_magnitudes(weight: Float32, axis: int | None) -> Float32:
    """Per channel of ``axis``, ``[C]``, or of all, 0-D."""
    others = tuple(other for other in range(weight.ndim) if axis is None or other != axis % weight.ndim)
    largest = [np.abs(weight[part]).max(axis=others, initial=0.0) for part in _parts(weight)]
    if axis is not None and axis % weight.ndim == 0:
        return np.concatenate(largest) if largest else np.zeros(0, np.float32)
    shape = () if axis is None else (weight.shape[axis],)
    return np.max(largest, axis=0) if largest else np.zeros(shape, np.float32)


def _clipped(weight: Float32, axis: int | None, scale: Float32, largest_code: int) -> Float32:
    """``scale`` shrunken for least squared error, some channels at a time."""
    channels = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0)
    every = scale.reshape(-1)
    clipped = np.empty_like(every)
    for part in _parts(channels):
        rows = np.ascontiguousarray(channels[part])
        rows = rows.reshape(rows.shape[0], math.prod(rows.shape[1:]))
        clipped[part] = _least_squares_scale(rows, every[part], largest_code)
    return clipped.reshape(scale.shape)


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
