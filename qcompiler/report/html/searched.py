"""The models that a search looked at, as rows and points of a page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from qcompiler.report.html.page import FrontRow, Kind
from qcompiler.report.units import megabytes, small

if TYPE_CHECKING:
    from qcompiler.auto.alternatives import Alternative
    from qcompiler.auto.facts import Totals
    from qcompiler.auto.front import Front, FrontPoint
    from qcompiler.report.search_facts import SearchFacts

CHOICES_SHOWN = 3

LEAST_MS = 5e-4
"""Differences of time that are shown."""

_TAIL = re.compile(r":(?:solver|sequential)=[^:,]*")


def front_rows(found: SearchFacts) -> tuple[FrontRow, ...]:
    """All models that a search looked at: its front where one was traced, else what it found, beside uniform ones."""
    return tuple(_front(found.front) if found.front is not None else _uniform(found))


def _front(found: Front) -> Iterator[FrontRow]:
    names = short_choices(
        [*found.uniform, *(name for point in found.points for name in point.assignment.values())]
    )
    for point in found.points:
        yield _point(_label(point, names), "front", point)
    for name, point in found.uniform.items():
        yield _point(f"{names[name]} everywhere", "uniform", point)
    yield _measured("float", found.float_model, "float")


def _uniform(found: SearchFacts) -> Iterator[FrontRow]:
    yield _measured("found", found.measured, "front", chosen=True)
    names = short_choices([each.choice for each in found.uniform])
    for each in found.uniform:
        label = f"{names[each.choice]} everywhere"
        yield FrontRow(
            label, "uniform", each.size_bytes, each.latency_ms, each.drop, measured=True, chosen=False
        )
    yield _measured("float", found.float_model, "float")


def _point(label: str, kind: Kind, point: FrontPoint) -> FrontRow:
    """A point that was not built has no drop of the metric: estimates are of a loss in another unit."""
    totals = point.measured or point.predicted
    loss = totals.loss if point.measured is not None else None
    return FrontRow(
        label, kind, totals.size_bytes, totals.latency_ms, loss, point.measured is not None, point.chosen
    )


def short_choices(names: Iterable[str]) -> dict[str, str]:
    """Choices without the options that say how codes are found, where that still tells them apart."""
    short = {name: _TAIL.sub("", name) for name in names}
    counts = Counter(short.values())
    return {name: found if counts[found] == 1 else name for name, found in short.items()}


def alternative_words(found: Mapping[str, tuple[Alternative, ...]]) -> dict[str, tuple[str, ...]]:
    """``int8_static: 27.0 kB less, 0.003 ms more, loss 0.0123 more``, by node."""
    names = short_choices(each.choice for several in found.values() for each in several)
    return {node: tuple(_differs(each, names) for each in several) for node, several in found.items()}


def _differs(each: Alternative, names: Mapping[str, str]) -> str:
    words = [f"{megabytes(round(abs(each.size_bytes)))} {_way(each.size_bytes)}"]
    if abs(each.latency_ms) >= LEAST_MS:
        words.append(f"{abs(each.latency_ms):.3f} ms {_way(each.latency_ms)}")
    words.append(f"loss {small(abs(each.loss))} {_way(each.loss)}")
    return f"{names[each.choice]}: {', '.join(words)}"


def _way(difference: float) -> str:
    return "less" if difference < 0 else "more"


def _label(point: FrontPoint, names: Mapping[str, str]) -> str:
    """``12 int4, 3 int8_static``: how many groups got what, most first."""
    counts = Counter(point.assignment.values()).most_common()
    shown = [f"{count} {names[name]}" for name, count in counts[:CHOICES_SHOWN]]
    rest = sum(count for _, count in counts[CHOICES_SHOWN:])
    return ", ".join([*shown, *([f"{rest} others"] if rest else [])]) or "all float"


def _measured(label: str, totals: Totals, kind: Kind, *, chosen: bool = False) -> FrontRow:
    return FrontRow(label, kind, totals.size_bytes, totals.latency_ms, totals.loss, True, chosen)
