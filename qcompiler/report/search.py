"""What a search found, on a terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from qcompiler.report.console import heading, plain_table, print_list, print_table, stdout_console
from qcompiler.report.facts import CompileFacts
from qcompiler.report.units import counted, megabytes, shares, small

if TYPE_CHECKING:
    from qcompiler.auto.facts import Front, Totals
    from qcompiler.auto.outcome import SearchResult

NAMES_SHOWN = 3


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
    """What a search found, beside what the compile of its result says."""

    compiled: CompileFacts
    recipe: str
    metric: str
    surrogate: float
    float_value: float
    value: float
    bits: float
    float_model: Totals
    predicted: Totals
    measured: Totals
    assignment: tuple[ChoiceFacts, ...]
    uniform: tuple[UniformFacts, ...]
    considered: tuple[str, ...]
    tried: int
    seconds: float
    notes: tuple[str, ...]
    front: Front | None


def search_facts(found: SearchResult, compiled: CompileFacts) -> SearchFacts:
    """The facts of a search."""
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
        compiled=compiled,
        recipe=str(found.recipe),
        metric=found.metric,
        surrogate=found.surrogate,
        float_value=found.float_value,
        value=found.value,
        bits=found.bits,
        float_model=found.float_model,
        predicted=found.predicted,
        measured=found.measured,
        assignment=tuple(choices),
        uniform=tuple(uniform),
        considered=found.considered,
        tried=found.tried,
        seconds=found.seconds,
        notes=found.notes,
        front=found.front,
    )


def print_search(facts: SearchFacts, console: Console | None = None) -> None:
    """Print what was found, what each node got, what was predicted and measured, and what else was looked at."""
    console = console or stdout_console()
    console.print(f"wrote {facts.compiled.path}", style="bold", soft_wrap=True)
    console.print(f"  {facts.recipe} gives the same bytes: --recipe", soft_wrap=True)
    if facts.compiled.report:
        console.print(f"  report: {facts.compiled.report}", soft_wrap=True)
    _print_totals(console, facts)
    _print_assignment(console, facts)
    _print_uniform(console, facts)
    heading(
        console, f"Whole pipelines compared, {facts.tried} models compiled in {facts.seconds / 60:.1f} min"
    )
    print_list(console, facts.considered)
    if facts.notes or facts.compiled.warnings:
        heading(console, "Notes")
        print_list(console, (*facts.notes, *facts.compiled.warnings))


def _print_totals(console: Console, facts: SearchFacts) -> None:
    heading(
        console,
        f"{facts.metric}: {facts.value:.6g}, float {facts.float_value:.6g}; {facts.bits:.2f} bits a weight",
    )
    table = plain_table("", "float", "predicted", "measured", right=("float", "predicted", "measured"))
    columns = (facts.float_model, facts.predicted, facts.measured)
    table.add_row("bytes", *(f"{each.size_bytes:,.0f}" for each in columns))
    if facts.float_model.latency_ms:
        table.add_row("ms a run", *(f"{each.latency_ms:.3f}" for each in columns))
    table.add_row("surrogate loss", "0", small(facts.predicted.loss), small(facts.surrogate))
    table.add_row(f"drop of {facts.metric}", "0", "", f"{facts.measured.loss:+.5f}")
    print_table(console, table)


def _print_assignment(console: Console, facts: SearchFacts) -> None:
    heading(console, "Assignment")
    table = plain_table("groups", "weights", "choice", "nodes", right=("groups", "weights"))
    total = sum(each.parameters for each in facts.assignment)
    for each in facts.assignment:
        names = ", ".join(each.nodes[:NAMES_SHOWN])
        more = f" and {len(each.nodes) - NAMES_SHOWN} more" if len(each.nodes) > NAMES_SHOWN else ""
        share = shares(each.parameters, total)
        table.add_row(str(each.groups), share, each.choice, f"{counted(each.op_types)}: {names}{more}")
    print_table(console, table)


def _print_uniform(console: Console, facts: SearchFacts) -> None:
    heading(console, "One choice everywhere")
    table = plain_table("drop", "size", "ms", "choice", right=("drop", "size", "ms"))
    for each in sorted(facts.uniform, key=lambda item: item.size_bytes):
        table.add_row(
            f"{each.drop:+.5f}", megabytes(int(each.size_bytes)), f"{each.latency_ms:.3f}", each.choice
        )
    print_table(console, table)
