"""Cross-layer equalization of two layers (arXiv:1906.04721, section 4.1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

SMALLEST, LARGEST = 1e-4, 1e4
"""Bounds of one step's scale."""

DEAD = 1e-6
"""A channel below this share of its layer's largest is left alone: evened out over many rounds, it would turn its
bias into the largest number of the layer."""


def equalization_scale(first: npt.ArrayLike, second: npt.ArrayLike) -> Float64:
    """``s_i = sqrt(r1_i r2_i) / r2_i``, ``[C]``: dividing the first layer's channel i by it and multiplying the
    second's gives both the range ``sqrt(r1_i r2_i)``.

    Args:
        first: largest magnitude of the first layer's weight per output channel, ``[C]``.
        second: largest magnitude of the second layer's weight per input channel, ``[C]``.

    Returns:
        Scales within ``[SMALLEST, LARGEST]``; 1 where either channel is dead, or all but dead.
    """
    r1, r2 = np.asarray(first, np.float64), np.asarray(second, np.float64)
    alive = (r1 > DEAD * r1.max(initial=0.0)) & (r2 > DEAD * r2.max(initial=0.0))
    ratio = np.divide(r1, r2, out=np.ones_like(r1), where=alive)
    return np.clip(np.sqrt(ratio), SMALLEST, LARGEST)
