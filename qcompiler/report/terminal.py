"""The report of a compile on a terminal: what was written, what it costs, what runs, what did not work."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from qcompiler.pipeline.registry import pass_class, target_class
from qcompiler.report.console import heading, plain_table, print_list, print_table, print_text, stdout_console
from qcompiler.report.facts import CompileFacts, Group, Hint, ValueFacts
from qcompiler.report.layers import by_layer
from qcompiler.report.spelling import spelled
from qcompiler.report.units import change, counted, megabytes, small
from qcompiler.verify.metrics import format_db

_MEANING = (
    "quantization: float against quantized, both as written; lowering: quantized as written against what runs; "
    "deployed: float against what runs."
)


def print_report(facts: CompileFacts, console: Console | None = None) -> None:
    """Print the report in sections; empty ones are left out."""
    console = console or stdout_console()
    _print_summary(console, facts)
    print_accuracy(console, facts)
    _print_passes(console, facts)
    print_kernels(console, facts)
    print_groups(console, "Left in float", facts.left_in_float)
    _print_worst(console, facts)
    print_lines(console, "Warnings", facts.warnings, style="yellow")
    print_hints(console, "Findings", facts.findings)
    print_hints(console, "Next", facts.hints)


def _print_summary(console: Console, facts: CompileFacts) -> None:
    console.print(f"wrote {facts.path}", style="bold", soft_wrap=True)
    rows = [
        ("pipeline", ",".join(spelled(item, pass_class) for item in facts.pipeline)),
        ("target", spelled(facts.target, target_class)),
        ("size", _size(facts)),
        *bits_rows(facts),
    ]
    if facts.speed is not None:
        speed = facts.speed
        interval = f"95 % interval {speed.low:.2f} to {speed.high:.2f}"
        threads = f"{speed.threads} thread{'s' if speed.threads > 1 else ''}"
        rows.append(("speed", f"{speed.ratio:.2f}x float ({interval}, {threads})"))
    elif facts.untimed:
        rows.append(("speed", f"not timed: {facts.untimed}"))
    rows.append(("manifest", facts.manifest))
    rows += [("report", facts.report)] if facts.report else []
    print_table(console, summary_table(rows))


def summary_table(rows: Sequence[tuple[str, str]]) -> Table:
    """Names and figures, without a heading."""
    table = plain_table("", "")
    table.show_header = False
    for row in rows:
        table.add_row(*row)
    return table


def bits_rows(facts: CompileFacts) -> list[tuple[str, str]]:
    """Bits a weight by both definitions: as formats pack low-bit weights, and as the file stores everything."""
    rows = []
    if facts.quantized_bits:
        constants = f"{facts.quantized_share:.0%} of {facts.parameters / 1e6:.3g} M float constants"
        asked = f"{facts.quantized_bits:.2f} a weight, scales counted ({facts.requested_bits:g} asked for)"
        rows.append(("packed bits", f"{asked}; {constants}"))
    stored = f"{facts.achieved_bits:.1f} a weight, every constant in the file counted"
    if facts.quantized_bits and facts.copy_bytes:
        stored += f", {8 * facts.copy_bytes / facts.parameters:.1f} of them int8 copies"
    return [*rows, ("stored bits", stored)]


def _size(facts: CompileFacts) -> str:
    if facts.size_before_bytes is None:
        return megabytes(facts.size_after_bytes)
    return change(facts.size_before_bytes, facts.size_after_bytes)


def print_accuracy(console: Console, facts: CompileFacts) -> None:
    """The outputs in the three comparisons."""
    if not facts.outputs:
        return
    source = f", {facts.held_out}" if facts.held_out else ""
    heading(console, f"Outputs, {facts.samples} feed{'s' if facts.samples != 1 else ''}{source}")
    table = plain_table(
        "comparison", "output", "SQNR", "cosine", "max error", right=("SQNR", "cosine", "max error")
    )
    for comparison, outputs in itertools.groupby(facts.outputs, key=lambda item: item.comparison):
        style = "bold" if comparison == "deployed" else ""
        for name, item in by_layer(outputs):
            table.add_row(comparison, name, *_figures(item), style=style)
    print_table(console, table)
    print_text(console, _MEANING, "dim")


def _figures(item: ValueFacts) -> tuple[str, str, str]:
    if not item.is_float:
        return f"{item.exact_share:.1%} equal", "", small(item.max_abs_error)
    return format_db(item.sqnr_db), f"{item.cosine:.4f}", small(item.max_abs_error)


def _print_passes(console: Console, facts: CompileFacts) -> None:
    heading(console, "Passes")
    table = plain_table(
        "nodes", "quantized", "transformed", "skipped", right=("quantized", "transformed", "skipped")
    )
    for item in facts.passes:
        table.add_row(item.name, str(item.quantized), str(item.transformed), str(item.skipped))
    print_table(console, table)


def print_kernels(console: Console, facts: CompileFacts) -> None:
    """What runs quantized nodes, and which of them no integer kernel runs."""
    if facts.kernels:
        heading(console, "Integer kernels that run quantized nodes")
        print_text(console, counted({item.kernel: item.nodes for item in facts.kernels}))
    if facts.fusions:
        print_text(console, f"fusions: {counted(facts.fusions)}")
    print_groups(console, "Quantized, but not run by an integer kernel", facts.not_integer)


def print_groups(console: Console, title: str, groups: Sequence[Group]) -> None:
    """Nodes by reason."""
    if not groups:
        return
    heading(console, title)
    table = plain_table("nodes", "reason")
    for group in groups:
        table.add_row(f"{counted(group.operators)}", group.reason)
    print_table(console, table)


def _print_worst(console: Console, facts: CompileFacts) -> None:
    if not facts.worst:
        return
    rescaled = any(item.transformed for item in facts.passes)
    note = "; values that a transform rescaled count as different" if rescaled else ""
    heading(console, f"Worst nodes inside (quantization{note})")
    table = plain_table("SQNR", "op", "node", right=("SQNR",))
    for item in facts.worst:
        table.add_row(format_db(item.sqnr_db), item.op_type, item.node or item.value)
    print_table(console, table)


def print_hints(console: Console, title: str, hints: Sequence[Hint]) -> None:
    """Points with commands below them, on one line however narrow the terminal: they are there to be copied."""
    if not hints:
        return
    heading(console, title)
    for item in hints:
        print_list(console, [f"{item.text}:" if item.command else f"{item.text.removesuffix('.')}."])
        if item.command:
            console.print(f"    {item.command}", soft_wrap=True)


def print_lines(console: Console, title: str, lines: Sequence[str], style: str = "") -> None:
    """Points below a heading; nothing where there are none."""
    if not lines:
        return
    heading(console, title)
    print_list(console, lines, style)
