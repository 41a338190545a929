"""Channels far larger than the others: what makes one scale for all of them coarse."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


def channel_ratio(values: Floats, axis: int) -> float:
    """Largest magnitude of the widest channel of ``axis`` against that of the median one; 1 where there are none."""
    if values.ndim < 2 or not values.size:
        return 1.0
    return spread(magnitude_of(values, axis))


def spread(magnitude: Floats) -> float:
    """The largest of some magnitudes against the median one; 1 for none."""
    middle = float(np.median(magnitude)) if magnitude.size else 0.0
    return float(magnitude.max()) / middle if middle > 0 else 1.0


def magnitude_of(values: Floats, axis: int) -> Floats:
    """Largest magnitude of every channel of ``axis``, ``[C]``."""
    others = tuple(other for other in range(values.ndim) if other != axis % values.ndim)
    return np.asarray(np.abs(values).max(axis=others))


def outlier_channels(values: Floats, axis: int, ratio: float) -> tuple[int, ...]:
    """Channels of ``axis`` whose largest magnitude is over ``ratio`` times the median one, largest first."""
    if values.ndim < 2 or not values.size:
        return ()
    return outliers_of(magnitude_of(values, axis), ratio)


def outliers_of(magnitude: Floats, ratio: float) -> tuple[int, ...]:
    """Indices above ``ratio`` times the median, largest first."""
    found = np.flatnonzero(magnitude > ratio * np.median(magnitude))
    return tuple(int(index) for index in found[np.argsort(-magnitude[found], kind="stable")])
