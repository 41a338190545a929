"""How much faster, and how sure: the median of paired ratios with an exact confidence interval.

Each round of an interleaved measurement gives one ratio, so that whatever slows the machine down for a while slows
both sides of it. The interval of the median is read from order statistics (David and Nagaraja, Order Statistics,
section 7.1): it assumes no distribution, needs no random numbers, and is exact for independent rounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ratio:
    """Baseline time / variant time: above 1 the variant is faster.

    Attributes:
        median: median over the rounds.
        low: lower end of the confidence interval of the median.
        high: upper end of it.
        confidence: coverage that the interval really has. It is at least what was asked for, except where
            there were too few rounds: then the interval is the whole range and this is its (lower) coverage.
    """

    median: float
    low: float
    high: float
    confidence: float

    @property
    def is_faster(self) -> bool:
        """The whole interval says that the variant is faster."""
        return self.low > 1.0

    @property
    def is_slower(self) -> bool:
        """The whole interval says that the variant is slower."""
        return self.high < 1.0

    def __str__(self) -> str:
        return f"{self.median:.2f}x [{self.low:.2f}, {self.high:.2f}]"


def paired_ratio(
    baseline_ms: Sequence[float], variant_ms: Sequence[float], *, confidence: float = 0.95
) -> Ratio:
    """Compare two series of rounds, the i-th of which were measured next to each other.

    Args:
        baseline_ms: one time per round, any unit, all positive.
        variant_ms: as many times, in the same unit.
        confidence: wanted coverage of the interval, in (0, 1).

    Raises:
        ValueError: no rounds, different numbers of rounds, times that are not positive and finite, or a
            confidence outside (0, 1).
    """
    baseline, variant = np.asarray(baseline_ms, np.float64), np.asarray(variant_ms, np.float64)
    if baseline.ndim != 1 or baseline.shape != variant.shape or baseline.size == 0:
        raise ValueError(f"needs as many rounds of both, got {baseline.shape} and {variant.shape}")
    if not (np.isfinite([baseline, variant]).all() and min(baseline.min(), variant.min()) > 0):
        raise ValueError("times must be positive and finite")
    ratios = np.sort(baseline / variant)
    rank, coverage = median_interval_rank(ratios.size, confidence)
    return Ratio(
        median=float(np.median(ratios)),
        low=float(ratios[rank]),
        high=float(ratios[ratios.size - 1 - rank]),
        confidence=coverage,
    )


def median_interval_rank(count: int, confidence: float) -> tuple[int, float]:
    """Return ``(k, coverage)``: the sorted samples k and count-1-k (from 0) enclose the median.

    The median lies outside with probability ``2 * P(Binomial(count, 1/2) <= k)``; k is the largest that keeps
    the coverage, and 0 where no k does.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    below, rank, coverage = 0.0, 0, 0.0
    for k in range((count + 1) // 2):
        below += math.comb(count, k) * 0.5**count
        inside = max(0.0, 1.0 - 2.0 * below)
        if k > 0 and inside < confidence:
            break
        rank, coverage = k, inside
    return rank, coverage
