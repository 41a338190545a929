"""Scales in the 16 bits they are stored in: float32 values that float16 holds exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from qcompiler.errors import UnsupportedError

Float32 = npt.NDArray[np.float32]

LARGEST = 65504.0
"""Largest finite float16."""
SMALLEST = 2.0**-24
"""Smallest positive float16; what a group of zeros gets for a scale."""


def half_nearest(values: Float32) -> Float32:
    """Nearest float16 of every value, as float32; the magnitude is kept in ``[2**-24, 65504]``."""
    return _bounded(values).astype(np.float16).astype(np.float32)


def half_above(values: Float32) -> Float32:
    """Nearest float16 of at least the magnitude of every value: a scale that clips nothing which fitted before.

    Raises:
        UnsupportedError: a value is above 65504 or not a number.
    """
    if not np.all(np.abs(values) <= LARGEST):
        raise UnsupportedError(
            f"a scale of {float(np.max(np.abs(values))):.4g} is needed, float16 holds at most {LARGEST:.0f}: "
            "exclude the node whose weights are that large"
        )
    bounded = _bounded(values)
    halves = bounded.astype(np.float16)
    short = np.abs(halves.astype(np.float32)) < np.abs(bounded)
    away = np.copysign(np.float16(np.inf), halves)
    result: Float32 = np.where(short, np.nextafter(halves, away), halves).astype(np.float32)
    return result


def _bounded(values: Float32) -> Float32:
    magnitude = np.clip(np.abs(values), np.float32(SMALLEST), np.float32(LARGEST))
    result: Float32 = np.copysign(magnitude, values)
    return result
