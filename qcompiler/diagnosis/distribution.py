"""How values are spread: counts over equal bins, few enough to be looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

BINS = 64

_SAMPLE = 1 << 20
"""Elements that are counted, spread over all."""


@dataclass(frozen=True)
class Distribution:
    """A histogram.

    Attributes:
        low: left end of the first bin.
        high: right end of the last.
        counts: of finite values in each of the equal bins; empty where there is none.
    """

    low: float = 0.0
    high: float = 0.0
    counts: tuple[int, ...] = ()


def distribution(values: npt.NDArray[np.floating[Any]]) -> Distribution:
    """Count ``values`` of any shape; of more than a million every k-th is looked at."""
    flat = values.reshape(-1)
    flat = flat[:: max(1, flat.size // _SAMPLE)]
    flat = flat[np.isfinite(flat)].astype(np.float64)
    if not flat.size:
        return Distribution()
    low, high = float(flat.min()), float(flat.max())
    if not low < high:  # one value: a bin around it
        width = max(abs(low), 1.0) * 1e-3
        low, high = low - width, high + width
    counts, _ = np.histogram(flat, BINS, (low, high))
    return Distribution(low, high, tuple(counts.tolist()))
