"""What a search adds to the report of its result: bounds with what came of them, and its front."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from qcompiler.report.html.page import BoundRow, FrontRow, Kind
from qcompiler.report.html.sources import Searched
from qcompiler.report.units import megabytes, small

if TYPE_CHECKING:
    from qcompiler.auto.facts import Bounds, Front, FrontPoint, Totals
    from qcompiler.auto.outcome import SearchResult

CHOICES_SHOWN = 3

LEEWAY = 1.02
"""Noise of the clock within which a bound of latency holds."""


def searched(found: SearchResult, bounds: Bounds) -> Searched:
    """The bounds of a search, the figures of its result, and all models that it looked at.

    Args:
        found: the search.
        bounds: as the user gave them.
    """
    front = tuple(_front(found.front)) if found.front is not None else tuple(_uniform(found))
    return Searched(tuple(_bounds(found, bounds)), found.metric, front)


def _bounds(found: SearchResult, bounds: Bounds) -> Iterator[BoundRow]:
    predicted, measured, base = found.predicted, found.measured, found.float_model
    size_holds = bounds.max_size_bytes is None or measured.size_bytes <= bounds.max_size_bytes
    yield BoundRow(
        "size",
        "" if bounds.max_size_bytes is None else f"at most {megabytes(bounds.max_size_bytes)}",
        f"{predicted.size_bytes:,.0f} bytes",
        f"{measured.size_bytes:,.0f} bytes",
        None if bounds.max_size_bytes is None else size_holds,
    )
    if base.latency_ms:
        yield _latency(predicted, measured, base, bounds)
    drop = bounds.max_drop
    yield BoundRow(
        f"drop of {found.metric}",
        "" if drop is None else f"at most {drop:g}",
        "",  # estimates are of the surrogate
        f"{measured.loss:.5f} ({small(found.float_value)} in float, {small(found.value)} compiled)",
        None if drop is None else measured.loss <= drop,
    )
    yield BoundRow(
        "surrogate of that drop, what is added up over nodes",
        "",
        small(predicted.loss),
        small(found.surrogate),
        None,
    )
    most = bounds.max_bits
    yield BoundRow(
        "bits a weight, scales counted",
        "" if most is None else f"at most {most:g}",
        "",
        f"{found.bits:.3f}",
        None if most is None else found.bits <= most * (1 + 1e-9),
    )


def _latency(predicted: Totals, measured: Totals, base: Totals, bounds: Bounds) -> BoundRow:
    limits = [] if bounds.max_latency_ms is None else [bounds.max_latency_ms]
    limits += [] if bounds.max_latency_ratio is None else [bounds.max_latency_ratio * base.latency_ms]
    asked = f"at most {small(min(limits))} ms" if limits else ""
    return BoundRow(
        f"a run, {small(base.latency_ms)} ms in float",
        asked,
        f"{predicted.latency_ms:.3f} ms",
        f"{measured.latency_ms:.3f} ms",
        measured.latency_ms <= LEEWAY * min(limits) if limits else None,
    )


def _front(found: Front) -> Iterator[FrontRow]:
    for point in found.points:
        yield _point(_label(point), "front", point)
    for name, point in found.uniform.items():
        yield _point(f"{name} everywhere", "uniform", point)
    yield _measured("float", found.float_model, "float")


def _uniform(found: SearchResult) -> Iterator[FrontRow]:
    """Without a front: the model found, beside one choice everywhere."""
    yield _measured("found", found.measured, "front", chosen=True)
    for name, judged in found.uniform.items():
        yield _measured(f"{name} everywhere", judged.totals, "uniform")
    yield _measured("float", found.float_model, "float")


def _point(label: str, kind: Kind, point: FrontPoint) -> FrontRow:
    """A point that was not built has no drop of the metric: estimates are of a loss in another unit."""
    totals = point.measured or point.predicted
    loss = totals.loss if point.measured is not None else None
    return FrontRow(
        label, kind, totals.size_bytes, totals.latency_ms, loss, point.measured is not None, point.chosen
    )


def _label(point: FrontPoint) -> str:
    """``12 int4, 3 int8_static``: how many groups got what, most first."""
    counts = Counter(point.assignment.values()).most_common()
    shown = [f"{count} {name}" for name, count in counts[:CHOICES_SHOWN]]
    rest = sum(count for _, count in counts[CHOICES_SHOWN:])
    return ", ".join([*shown, *([f"{rest} others"] if rest else [])]) or "all float"


def _measured(label: str, totals: Totals, kind: Kind, *, chosen: bool = False) -> FrontRow:
    return FrontRow(label, kind, totals.size_bytes, totals.latency_ms, totals.loss, True, chosen)
