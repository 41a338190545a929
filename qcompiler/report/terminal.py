"""The report of a compile on a terminal: what was written, what it costs, what runs, what did not work."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from rich.console import Console

from qcompiler.errors import OptionError
from qcompiler.pipeline.options import shortest
from qcompiler.pipeline.registry import pass_class, target_class
from qcompiler.report.console import heading, plain_table, print_list, print_table, print_text, stdout_console
from qcompiler.report.facts import CompileFacts, Configured, Group, ValueFacts
from qcompiler.report.layers import by_layer
from qcompiler.report.units import counted, megabytes, small
from qcompiler.verify.metrics import format_db

_MEANING = (
    "quantization: float against quantized, both as written; lowering: quantized as written against what runs; "
    "deployed: float against what runs."
)


def print_report(facts: CompileFacts, console: Console | None = None) -> None:
    """Print the report in sections; empty ones are left out."""
    console = console or stdout_console()
    _print_summary(console, facts)
    _print_accuracy(console, facts)
    _print_passes(console, facts)
    _print_kernels(console, facts)
    _print_groups(console, "Left in float", facts.left_in_float)
    _print_worst(console, facts)
    _print_lines(console, "Warnings", facts.warnings, style="yellow")
    _print_lines(console, "Next", facts.hints)


def _print_summary(console: Console, facts: CompileFacts) -> None:
    console.print(f"wrote {facts.path}", style="bold", soft_wrap=True)
    table = plain_table("", "")
    table.show_header = False
    table.add_row("pipeline", ",".join(_spelled(item, pass_class) for item in facts.pipeline))
    table.add_row("target", _spelled(facts.target, target_class))
    table.add_row("size", _size(facts))
    low_bit, stored = _bits(facts)
    if low_bit:
        table.add_row("low-bit", low_bit)
    table.add_row("weights", stored)
    if facts.speed is not None:
        speed = facts.speed
        interval = f"95 % interval {speed.low:.2f} to {speed.high:.2f}"
        threads = f"{speed.threads} thread{'s' if speed.threads > 1 else ''}"
        table.add_row("speed", f"{speed.ratio:.2f}x float ({interval}, {threads})")
    elif facts.untimed:
        table.add_row("speed", f"not timed: {facts.untimed}")
    table.add_row("manifest", facts.manifest)
    if facts.report:
        table.add_row("report", facts.report)
    print_table(console, table)


def _bits(facts: CompileFacts) -> tuple[str, str]:
    """Bits of low-bit weights, "" where there are none; bits of everything stored."""
    stored = f"{facts.achieved_bits:.1f} bits each, all stored bytes counted"
    if not facts.quantized_bits:
        return "", stored
    if facts.copy_bytes:
        stored += f", {8 * facts.copy_bytes / facts.parameters:.1f} of them int8 copies"
    constants = f"{facts.quantized_share:.0%} of {facts.parameters / 1e6:.3g} M float constants"
    asked = f"{facts.requested_bits:g} bits asked for, {facts.quantized_bits:.2f} with scales; {constants}"
    return asked, stored


def _spelled(item: Configured, find: Callable[[str], type]) -> str:
    """As a user would write it: without the options that are the default."""
    try:
        options = shortest(find(item.name), item.options, owner=item.name)
    except OptionError:  # made in Python, under no registered name
        options = item.options
    words = (
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in options.items()
    )
    return ":".join([item.name, *words])


def _size(facts: CompileFacts) -> str:
    after = megabytes(facts.size_after_bytes)
    if facts.size_before_bytes is None:
        return after
    ratio = facts.size_before_bytes / max(facts.size_after_bytes, 1)
    change = f"{ratio:.2f}x smaller" if ratio >= 1 else f"{1 / ratio:.2f}x larger"
    return f"{megabytes(facts.size_before_bytes)} -> {after} ({change})"


def _print_accuracy(console: Console, facts: CompileFacts) -> None:
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


def _print_kernels(console: Console, facts: CompileFacts) -> None:
    if facts.kernels:
        heading(console, "Integer kernels that run quantized nodes")
        print_text(console, counted({item.kernel: item.nodes for item in facts.kernels}))
    if facts.fusions:
        print_text(console, f"fusions: {counted(facts.fusions)}")
    _print_groups(console, "Quantized, but not run by an integer kernel", facts.not_integer)


def _print_groups(console: Console, title: str, groups: Sequence[Group]) -> None:
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


def _print_lines(console: Console, title: str, lines: Sequence[str], style: str = "") -> None:
    if not lines:
        return
    heading(console, title)
    print_list(console, lines, style)
