"""``qcompile compare`` on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console

from qcompiler.report.console import heading, plain_table, print_table, stdout_console
from qcompiler.report.layers import by_layer
from qcompiler.report.units import small
from qcompiler.verify.metrics import format_db

if TYPE_CHECKING:
    from qcompiler.verify.comparison import Comparison, NodeComparison, Unobserved

REASONS_SHOWN = 5


@dataclass(frozen=True)
class ComparisonFacts:
    """Two models on the same data; ``worst`` holds as many nodes as were asked for, ``compared`` counts all."""

    reference: str
    other: str
    data: str
    samples: int
    outputs: tuple[NodeComparison, ...]
    compared: int
    worst: tuple[NodeComparison, ...]
    unobserved: tuple[Unobserved, ...]


def comparison_facts(found: Comparison, reference: str, other: str, data: str, worst: int) -> ComparisonFacts:
    """What a comparison shows, with its ``worst`` worst nodes."""
    return ComparisonFacts(
        reference=reference,
        other=other,
        data=data,
        samples=found.samples,
        outputs=found.outputs,
        compared=len(found.nodes),
        worst=found.worst(worst),
        unobserved=found.unobserved,
    )


def print_comparison(facts: ComparisonFacts) -> None:
    """Print outputs first, then the worst nodes."""
    console = stdout_console()
    console.print(f"{facts.other} against {facts.reference}", style="bold", soft_wrap=True)
    console.print(f"  on {facts.data}", soft_wrap=True)
    heading(console, "Outputs")
    _print_rows(console, by_layer(facts.outputs), "output")
    if facts.worst:
        heading(console, f"Worst nodes ({len(facts.worst)} of {facts.compared} compared)")
        _print_rows(console, [(item.node or item.value, item) for item in facts.worst], "node")
    _print_unobserved(console, facts.unobserved)


def _print_rows(console: Console, rows: Sequence[tuple[str, NodeComparison]], what: str) -> None:
    table = plain_table("SQNR", "cosine", "max error", "op", what, right=("SQNR", "cosine", "max error"))
    for name, item in rows:
        figures = format_db(item.sqnr_db) if item.is_float else f"{item.exact_share:.1%} equal"
        cosine = f"{item.cosine:.4f}" if item.is_float else ""
        table.add_row(figures, cosine, small(item.max_abs_error), item.op_type, name)
    print_table(console, table)


def _print_unobserved(console: Console, unobserved: Sequence[Unobserved]) -> None:
    if not unobserved:
        return
    heading(console, "Not compared")
    for item in unobserved[:REASONS_SHOWN]:
        console.print(f"  {item.value or 'inside'}: {item.reason}")
    if len(unobserved) > REASONS_SHOWN:
        console.print(f"  and {len(unobserved) - REASONS_SHOWN} more")
