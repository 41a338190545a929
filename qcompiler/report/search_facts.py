"""What a search found, as plain values: the terminal, the JSON document and the page say the same."""

from __future__ import annotations

import dataclasses
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qcompiler.findings import without_own_choices
from qcompiler.report.facts import CompileFacts, Hint
from qcompiler.report.units import megabytes, small

if TYPE_CHECKING:
    from qcompiler.auto.alternatives import Alternative
    from qcompiler.auto.facts import Bounds, Totals
    from qcompiler.auto.front import Front
    from qcompiler.auto.outcome import SearchResult

LEEWAY = 1.02
"""Noise of the clock within which a bound of latency holds."""

FLOAT_BITS = 32


@dataclass(frozen=True)
class BoundRow:
    """One quantity: of the float model, asked for, predicted, measured, and whether the bound holds."""

    name: str
    before: str
    bound: str
    predicted: str
    measured: str
    holds: bool | None


@dataclass(frozen=True)
class ChoiceFacts:
    """Groups of nodes that got the same choice."""

    choice: str
    groups: int
    parameters: int
    op_types: dict[str, int]
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class UniformFacts:
    """A model of one choice everywhere."""

    choice: str
    size_bytes: float
    latency_ms: float
    drop: float


@dataclass(frozen=True)
class SearchFacts:
    """What a search found, beside what the compile of its result says.

    Attributes:
        compiled: of the published model.
        recipe: the file that gives the same bytes without searching.
        front_file: "" where no front was traced.
        metric: what the drop is of.
        surrogate: measured, of the loss that is added up over nodes.
        bits: *packed bits* a weight of what could be quantized: codes and scales as formats pack them, 32 in float.
        bounds: as the user gave them, or the usual one where none was given.
        quantities: all of them beside their bounds.
        considered: whole pipelines that were compared.
        tried: models that were compiled and measured.
        seconds: the search took.
        peak_bytes: most memory that the process held until its end; 0 where the system does not say.
        notes: what was chosen for the user.
        hints: what to do next.
        reasons: why nodes that hold a weight are in float, by name.
        alternatives: what other choices would have cost nodes that are in float, by name.
    """

    compiled: CompileFacts
    recipe: str
    front_file: str
    metric: str
    surrogate: float
    float_value: float
    value: float
    bits: float
    bounds: Bounds
    float_model: Totals
    predicted: Totals
    measured: Totals
    quantities: tuple[BoundRow, ...]
    assignment: tuple[ChoiceFacts, ...]
    uniform: tuple[UniformFacts, ...]
    considered: tuple[str, ...]
    tried: int
    seconds: float
    peak_bytes: int
    notes: tuple[str, ...]
    hints: tuple[Hint, ...]
    front: Front | None
    reasons: dict[str, str] = field(default_factory=dict)
    alternatives: dict[str, tuple[Alternative, ...]] = field(default_factory=dict)


def search_facts(
    found: SearchResult,
    compiled: CompileFacts,
    bounds: Bounds,
    *,
    hints: tuple[Hint, ...] = (),
    chose_target: bool = True,
) -> SearchFacts:
    """The facts of a search.

    Args:
        found: the search.
        compiled: of its result.
        bounds: as the user gave them.
        hints: what to do next.
        chose_target: whether the search chose the options of the target, of which none need have an effect.
    """
    from qcompiler.auto.bounds import settle

    bounds = settle(bounds, found.metric).bounds
    kept = without_own_choices(compiled.warnings) if chose_target else compiled.warnings
    choices = [
        ChoiceFacts(
            choice,
            len(groups),
            sum(group.parameters for group in groups),
            dict(Counter(group.op_type for group in groups)),
            tuple(name for group in groups for name in group.nodes),
        )
        for choice, groups in found.by_choice().items()
    ]
    uniform = [
        UniformFacts(name, each.totals.size_bytes, each.totals.latency_ms, each.totals.loss)
        for name, each in found.uniform.items()
    ]
    return SearchFacts(
        compiled=dataclasses.replace(compiled, warnings=kept),
        recipe=str(found.recipe),
        front_file="" if found.front is None else str(found.result.path.with_suffix(".front.json")),
        metric=found.metric,
        surrogate=found.surrogate,
        float_value=found.float_value,
        value=found.value,
        bits=found.bits,
        bounds=bounds,
        float_model=found.float_model,
        predicted=found.predicted,
        measured=found.measured,
        quantities=tuple(_quantities(found, bounds)),
        assignment=tuple(choices),
        uniform=tuple(sorted(uniform, key=lambda each: each.size_bytes)),
        considered=found.considered,
        tried=found.tried,
        seconds=found.seconds,
        peak_bytes=peak_bytes(),
        notes=found.notes,
        hints=hints,
        front=found.front,
        reasons=dict(found.reasons),
        alternatives={
            node: found.alternatives[group.name]
            for group in found.groups
            if group.name in found.alternatives
            for node in group.nodes
        },
    )


def peak_bytes() -> int:
    """Most memory that this process has held; 0 where the system does not say."""
    if sys.platform == "win32":
        return 0
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _quantities(found: SearchResult, bounds: Bounds) -> Iterator[BoundRow]:
    predicted, measured, base = found.predicted, found.measured, found.float_model
    limit = bounds.max_size_bytes
    yield BoundRow(
        "size, bytes",
        f"{base.size_bytes:,.0f}",
        "" if limit is None else f"at most {megabytes(limit)}",
        f"{predicted.size_bytes:,.0f}",
        f"{measured.size_bytes:,.0f}",
        None if limit is None else measured.size_bytes <= limit,
    )
    if base.latency_ms:
        yield _latency(predicted, measured, base, bounds)
    yield BoundRow(found.metric, f"{found.float_value:.5g}", "", "", f"{found.value:.5g}", None)
    drop = bounds.max_drop
    yield BoundRow(
        f"drop of {found.metric}",
        "0",
        "" if drop is None else f"at most {drop:g}",
        "",  # estimates are of the surrogate
        f"{measured.loss:.5f}",
        None if drop is None else measured.loss <= drop,
    )
    yield BoundRow("surrogate of it", "0", "", small(predicted.loss), small(found.surrogate), None)
    most = bounds.max_bits
    yield BoundRow(
        "packed bits a weight",
        str(FLOAT_BITS),
        "" if most is None else f"at most {most:g}",
        "",
        f"{found.bits:.3f}",
        None if most is None else found.bits <= most * (1 + 1e-9),
    )


def _latency(predicted: Totals, measured: Totals, base: Totals, bounds: Bounds) -> BoundRow:
    limits = [] if bounds.max_latency_ms is None else [bounds.max_latency_ms]
    limits += [] if bounds.max_latency_ratio is None else [bounds.max_latency_ratio * base.latency_ms]
    return BoundRow(
        "a run, ms",
        small(base.latency_ms),
        f"at most {small(min(limits))}" if limits else "",
        small(predicted.latency_ms),
        small(measured.latency_ms),
        measured.latency_ms <= LEEWAY * min(limits) if limits else None,
    )
