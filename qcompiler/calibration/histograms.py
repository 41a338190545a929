"""Histograms in the run that observes everything else.

Bins need a range before the first element is counted.  The first feeds are run once more for it, and the bins cover
twice what they showed; what turns out to lie outside even that is counted exactly in a run of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from qcompiler.calibration.probes import Counts, MinMax
from qcompiler.calibration.requests import Calibrator, Range, Request
from qcompiler.numerics.histogram import BINS, Histogram, entropy_range, mse_range, percentile_range

CALIBRATORS = frozenset({Calibrator.PERCENTILE, Calibrator.ENTROPY, Calibrator.MSE})
SCOUTS = 16
"""Feeds that are run first to find out where the bins must lie."""

MARGIN = 2.0
"""The bins cover this many times the range of the first feeds; there are as many times more of them."""

HISTOGRAM_BYTES = 128 << 20
"""Bin indices of one batch that may leave the runtime at once; more values take more runs."""

WIDEST = 1e30
"""A wider range (an attention mask of -3.4e38) is no histogram's business: its extremes are kept."""


def needs_histogram(request: Request) -> bool:
    """Whether a request is answered from a histogram."""
    return isinstance(request, Range) and request.calibrator in CALIBRATORS


def scouts(requests: Sequence[Range]) -> dict[Range, MinMax]:
    """What the first feeds are asked."""
    return {request: MinMax(Range(request.value), average=False) for request in requests}


def wide_counts(found: Mapping[Range, MinMax]) -> dict[Range, Counts]:
    """Bins over more than the first feeds showed; none where they showed zeros or a mask only."""
    counts = {}
    for request, probe in found.items():
        low, high = (MARGIN * end for end in probe.answer())
        if low < high and high - low < WIDEST:
            counts[request] = Counts(request.value, min(low, 0.0), max(high, 0.0), int(MARGIN * BINS))
    return counts


def exact_counts(extremes: Mapping[Range, tuple[float, float]]) -> dict[Range, Counts]:
    """Bins over ranges that are known."""
    return {
        request: Counts(request.value, low, high)
        for request, (low, high) in extremes.items()
        if low < high and high - low < WIDEST
    }


def in_groups(counts: Mapping[Range, Counts], elements: Mapping[Range, int]) -> Iterator[list[Counts]]:
    """Split so that one batch's bin indices (4 bytes an element) stay under ``HISTOGRAM_BYTES``."""
    group: list[Counts] = []
    held = 0
    for request, probe in counts.items():
        size = 4 * elements[request]
        if group and held + size > HISTOGRAM_BYTES:
            yield group
            group, held = [], 0
        group.append(probe)
        held += size
    if group:
        yield group


def clipping_range(
    request: Range, histogram: Histogram, extremes: tuple[float, float]
) -> tuple[float, float]:
    """The range that the request's calibrator chooses, inside what was observed."""
    symmetric, levels = request.symmetric, 2**request.bits
    if request.calibrator is Calibrator.PERCENTILE:
        low, high = percentile_range(histogram, request.percentile, symmetric=symmetric)
    elif request.calibrator is Calibrator.ENTROPY:
        low, high = entropy_range(histogram, levels, symmetric=symmetric)
    else:
        low, high = mse_range(histogram, levels, symmetric=symmetric)
    if symmetric:
        return low, high
    return max(low, min(extremes[0], 0.0)), min(high, max(extremes[1], 0.0))


def unclipped(request: Range, extremes: tuple[float, float]) -> tuple[float, float]:
    """The range of what was observed, where no histogram was taken."""
    bound = max(abs(extremes[0]), abs(extremes[1]))
    return (-bound, bound) if request.symmetric else extremes
