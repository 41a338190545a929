"""Clipping ranges from a histogram: percentile, entropy (KL) and least squared error.

A histogram is ``counts [bins]`` over equal bins of ``[low, high]``.  The ranges found lie inside
``[low, high]`` and hold zero, because zero must have an exact code.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

BINS = 2048
LEAST_SHRINK = 0.2
"""No end of a range is moved nearer to zero than this share of what was seen."""

COARSE_STEPS, FINE_STEPS = 11, 9
ENTROPY_STEPS = 41


@dataclass(frozen=True)
class Histogram:
    """Counts over equal bins of ``[low, high]``; low < high."""

    counts: npt.NDArray[np.int64]
    low: float
    high: float

    @functools.cached_property
    def centres(self) -> Float64:
        edges = np.linspace(self.low, self.high, self.counts.size + 1)
        return np.asarray((edges[1:] + edges[:-1]) / 2)

    def trimmed(self) -> Histogram:
        """Without the empty bins at both ends; a histogram of nothing stays as it is."""
        filled = np.flatnonzero(self.counts)
        if not filled.size:
            return self
        first, last = int(filled[0]), int(filled[-1]) + 1
        width = (self.high - self.low) / self.counts.size
        return Histogram(self.counts[first:last], self.low + first * width, self.low + last * width)


def percentile_range(
    histogram: Histogram, percentile: float, *, symmetric: bool = False
) -> tuple[float, float]:
    """Smallest range that keeps ``percentile`` percent of the elements, half of the rest cut on each side."""
    edges = np.linspace(histogram.low, histogram.high, histogram.counts.size + 1)
    share = np.concatenate([[0.0], np.cumsum(histogram.counts) / max(int(histogram.counts.sum()), 1)])
    tail = (1.0 - percentile / 100.0) / 2.0
    low = float(edges[max(int(np.searchsorted(share, tail, side="right")) - 1, 0)])
    high = float(edges[min(int(np.searchsorted(share, 1.0 - tail, side="left")), edges.size - 1)])
    return _with_zero(low, high, symmetric)


def mse_range(histogram: Histogram, levels: int, *, symmetric: bool = False) -> tuple[float, float]:
    """Range whose ``levels`` equal steps give the least squared error.

    Both ends are searched on a grid, coarse over all of it and fine around the best.
    """
    low, high = _with_zero(histogram.low, histogram.high, symmetric)
    x, weight = _occupied(histogram)

    def best(ends: Iterable[tuple[float, float]]) -> tuple[float, float]:
        return min(ends, key=lambda end: _squared_error(x, weight, low * end[0], high * end[1], levels))

    coarse = best(_grid((1.0, 1.0), 1.0 - LEAST_SHRINK, COARSE_STEPS, symmetric=symmetric))
    fine = best(_grid(coarse, (1.0 - LEAST_SHRINK) / (COARSE_STEPS - 1), FINE_STEPS, symmetric=symmetric))
    return low * fine[0], high * fine[1]


def _grid(
    centre: tuple[float, float], reach: float, steps: int, *, symmetric: bool
) -> list[tuple[float, float]]:
    """Pairs of shrink factors around ``centre``, none below ``LEAST_SHRINK`` or above 1, the largest first."""
    first, second = (
        np.linspace(min(middle + reach, 1.0), max(middle - reach, LEAST_SHRINK), steps).tolist()
        for middle in centre
    )
    return list(zip(first, second, strict=True)) if symmetric else list(itertools.product(first, second))


def entropy_range(histogram: Histogram, levels: int, *, symmetric: bool = False) -> tuple[float, float]:
    """Range whose ``levels`` steps keep the distribution closest in Kullback-Leibler divergence.

    The ends are searched one after the other, or together where the range is symmetric.  What is clipped falls
    into the outermost bins of the reference distribution, and a step's mass is spread evenly over the bins that
    were occupied, as in TensorRT's 8-bit calibration.
    """
    low, high = _with_zero(histogram.low, histogram.high, symmetric)
    shrink = np.linspace(1.0, LEAST_SHRINK, ENTROPY_STEPS)
    if symmetric:
        return min(
            zip(low * shrink, high * shrink, strict=True),
            key=lambda pair: _divergence(histogram, pair[0], pair[1], levels),
        )
    high = min(high * shrink, key=lambda end: _divergence(histogram, low, float(end), levels))
    low = min(low * shrink, key=lambda end: _divergence(histogram, float(end), high, levels))
    return float(low), float(high)


def _with_zero(low: float, high: float, symmetric: bool) -> tuple[float, float]:
    low, high = min(low, 0.0), max(high, 0.0)
    bound = max(-low, high)
    return (-bound, bound) if symmetric else (low, high)


def _occupied(histogram: Histogram) -> tuple[Float64, Float64]:
    """Centres and counts of the bins that hold anything; the bin around zero is taken to be zero itself."""
    centres = histogram.centres
    width = (histogram.high - histogram.low) / histogram.counts.size
    centres = np.where(np.abs(centres) <= width / 2, 0.0, centres)
    filled = histogram.counts > 0
    return centres[filled], histogram.counts[filled].astype(np.float64)


def _squared_error(x: Float64, weight: Float64, low: float, high: float, levels: int) -> float:
    step = (high - low) / (levels - 1)
    if step <= 0:
        return float(np.dot(weight, np.square(x)))
    rounded = np.clip(np.rint(x / step), np.rint(low / step), np.rint(high / step)) * step
    return float(np.dot(weight, np.square(x - rounded)))


def _divergence(histogram: Histogram, low: float, high: float, levels: int) -> float:
    centres = histogram.centres
    inside = (centres >= low) & (centres <= high)
    if high <= low or inside.sum() < levels // 2:
        return float("inf")
    first, last = int(np.argmax(inside)), int(inside.size - np.argmax(inside[::-1]))
    kept = histogram.counts[first:last].astype(np.float64)
    reference = kept.copy()
    reference[0] += histogram.counts[:first].sum()
    reference[-1] += histogram.counts[last:].sum()
    step = (np.arange(kept.size) * levels) // kept.size
    mass = np.bincount(step, weights=kept, minlength=levels)
    occupied = np.bincount(step, weights=kept > 0, minlength=levels)
    spread = np.divide(mass, occupied, out=np.zeros(levels), where=occupied > 0)[step] * (kept > 0)
    p, q = reference / max(reference.sum(), 1.0), spread / max(spread.sum(), 1.0)
    both = p > 0
    # A bin that only holds clipped mass has q = 0: it costs as much as a one-in-a-million event.
    return float(np.sum(p[both] * np.log(p[both] / np.maximum(q[both], 1e-6))))
