"""What a search found, on a terminal."""

from __future__ import annotations

from rich.console import Console

from qcompiler.report.console import heading, plain_table, print_list, print_table, print_text, stdout_console
from qcompiler.report.search_facts import ChoiceFacts, SearchFacts
from qcompiler.report.terminal import (
    bits_rows,
    print_accuracy,
    print_groups,
    print_hints,
    print_kernels,
    print_lines,
    summary_table,
)
from qcompiler.report.units import change, counted, megabytes, shares

NAMES_SHOWN = 3

HOLDS = {True: "yes", False: "NO", None: ""}

_SURROGATE = (
    "surrogate: the loss that is added up over nodes; packed bits: codes and scales as formats pack them, 32 in "
    "float"
)


def print_search(facts: SearchFacts, console: Console | None = None) -> None:
    """Print what was written, what holds, what each node got, what else was looked at, and what to do next."""
    console = console or stdout_console()
    console.print(f"wrote {facts.compiled.path}", style="bold", soft_wrap=True)
    _print_summary(console, facts)
    _print_quantities(console, facts)
    _print_assignment(console, facts)
    print_accuracy(console, facts.compiled)
    print_kernels(console, facts.compiled)
    print_groups(console, "Left in float", facts.compiled.left_in_float)
    _print_uniform(console, facts)
    heading(console, "Whole pipelines compared ('...' stands for the passes of an assignment)")
    print_list(console, facts.considered)
    print_lines(console, "Warnings", facts.compiled.warnings, style="yellow")
    print_lines(console, "Notes", facts.notes)
    print_hints(console, "Findings", facts.compiled.findings)
    print_hints(console, "Next", facts.hints)


def _print_summary(console: Console, facts: SearchFacts) -> None:
    compiled, before, after = facts.compiled, facts.float_model, facts.measured
    rows = [("size", change(before.size_bytes, after.size_bytes))]
    if before.latency_ms:
        times = f"{before.latency_ms:.3g} -> {after.latency_ms:.3g} ms a run"
        rows.append(("speed", f"{before.latency_ms / max(after.latency_ms, 1e-9):.2f}x float ({times})"))
    rows.append((facts.metric, f"{facts.value:.5g}, float {facts.float_value:.5g}{verdict(facts)}"))
    rows += [(name, text) for name, text in bits_rows(compiled) if name == "stored bits"]
    rows.append(("search", search_words(facts)))
    rows.append(("recipe", facts.recipe))
    rows += [("front", facts.front_file)] if facts.front_file else []
    rows.append(("manifest", compiled.manifest))
    rows += [("report", compiled.report)] if compiled.report else []
    print_table(console, summary_table(rows))


def verdict(facts: SearchFacts) -> str:
    """Whether the bound on the metric holds, in words; "" where there is none."""
    if facts.bounds.max_drop is None:
        return ""
    kept = "kept" if facts.measured.loss <= facts.bounds.max_drop else "NOT kept"
    return f" (drop {facts.measured.loss:.4g}, at most {facts.bounds.max_drop:g}: {kept})"


def search_words(facts: SearchFacts) -> str:
    """What the search took."""
    memory = f", {megabytes(facts.peak_bytes)} of memory at most" if facts.peak_bytes else ""
    models = f"{facts.tried} model{'s' if facts.tried != 1 else ''} compiled and measured"
    return f"{facts.seconds / 60:.1f} min{memory}; {models}"


def _print_quantities(console: Console, facts: SearchFacts) -> None:
    heading(console, "What was asked for, predicted and measured")
    numbers = ("float", "bound", "predicted", "measured")
    table = plain_table("", *numbers, "holds", right=numbers)
    for row in facts.quantities:
        table.add_row(row.name, row.before, row.bound, row.predicted, row.measured, HOLDS[row.holds])
    print_table(console, table)
    print_text(console, _SURROGATE, "dim")


def _print_assignment(console: Console, facts: SearchFacts) -> None:
    heading(console, "Assignment")
    table = plain_table("groups", "weights", "choice", "nodes", right=("groups", "weights"))
    total = sum(each.parameters for each in facts.assignment)
    for each in facts.assignment:
        share = shares(each.parameters, total)
        table.add_row(str(each.groups), share, each.choice, f"{counted(each.op_types)}: {_names(each)}")
    print_table(console, table)


def _names(each: ChoiceFacts) -> str:
    more = f" and {len(each.nodes) - NAMES_SHOWN} more" if len(each.nodes) > NAMES_SHOWN else ""
    return ", ".join(each.nodes[:NAMES_SHOWN]) + more


def _print_uniform(console: Console, facts: SearchFacts) -> None:
    if not facts.uniform:
        return
    heading(console, f"One choice everywhere (drop of {facts.metric})")
    timed = facts.float_model.latency_ms > 0
    numbers = ("drop", "size", *(("ms",) if timed else ()))
    table = plain_table(*numbers, "choice", right=numbers)
    for each in facts.uniform:
        times = (f"{each.latency_ms:.3f}",) if timed else ()
        table.add_row(f"{each.drop:+.5f}", megabytes(int(each.size_bytes)), *times, each.choice)
    print_table(console, table)
