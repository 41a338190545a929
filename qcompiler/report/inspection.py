"""``qcompile inspect`` on a terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from qcompiler.inspect.inspection import Inspection, PassOutlook, ValueInfo, WeightInfo
from qcompiler.report.console import heading, plain_table, print_list, print_table, print_text, stdout_console
from qcompiler.report.units import counted, megabytes, shares

WEIGHTS_SHOWN = 12


def print_inspection(found: Inspection, console: Console | None = None) -> None:
    """Print what a model is made of, its weights, and what could be done with it."""
    console = console or stdout_console()
    console.print(found.path, style="bold", soft_wrap=True)
    opsets = ", ".join(f"{name} {version}" for name, version in found.opsets.items())
    console.print(f"  opset {opsets}; IR version {found.ir_version}; {found.producer or 'unknown producer'}")
    console.print(f"  {megabytes(found.size_bytes)}; {found.parameters:,} float parameters")
    _print_values(console, found)
    heading(console, "Operators")
    print_text(console, counted(found.operators))
    _print_weights(console, found.weights, found.weight_bytes)
    _print_outlook(console, found.outlook, found.target)
    _print_reasons(console, found)
    if found.findings:
        heading(console, "Findings")
        print_list(console, found.findings)


def _print_values(console: Console, found: Inspection) -> None:
    table = plain_table("", "name", "type", "shape")
    rows: list[tuple[str, ValueInfo]] = [("input", item) for item in found.inputs]
    rows += [("output", item) for item in found.outputs]
    for kind, item in rows:
        table.add_row(kind, item.name, item.dtype, item.shape)
    print_table(console, table)


def _print_weights(console: Console, weights: Sequence[WeightInfo], total: int) -> None:
    heading(console, "Weights")
    if not weights:
        console.print("  no operator holds a constant float weight that a pass could quantize")
        return
    groups: dict[str, list[WeightInfo]] = defaultdict(list)
    for item in weights:
        groups[item.op_type].append(item)
    table = plain_table("operator", "nodes", "bytes", "share", right=("nodes", "bytes", "share"))
    for op_type, members in groups.items():
        size = sum({item.weight: item.size_bytes for item in members}.values())
        table.add_row(op_type, str(len(members)), megabytes(size), shares(size, total))
    print_table(console, table)
    _print_largest(console, weights, total)


def _print_largest(console: Console, weights: Sequence[WeightInfo], total: int) -> None:
    largest = sorted(weights, key=lambda item: -item.size_bytes)[:WEIGHTS_SHOWN]
    shown = f" ({WEIGHTS_SHOWN} of {len(weights)}; --json lists all)" if len(weights) > WEIGHTS_SHOWN else ""
    heading(console, f"Largest weights{shown}")
    table = plain_table("node", "shape", "share", "could be", right=("share",))
    for item in largest:
        shape = "x".join(map(str, item.shape))
        table.add_row(item.node, shape, shares(item.size_bytes, total), _could_be(item))
    print_table(console, table)


def _could_be(item: WeightInfo) -> str:
    ways = {"static": item.static, "dynamic": item.dynamic, "stored in int8": item.weight_only}
    fits = [name for name, fits in ways.items() if fits]
    return ", ".join(fits) if fits else item.reason or "left in float"


def _print_outlook(console: Console, outlook: Sequence[PassOutlook], target: str) -> None:
    heading(console, f"What passes could do, on {target}")
    for item in outlook:
        note = f": {item.note.removeprefix(f'{item.name} ')}" if item.note else ""
        print_text(console, Text.assemble((item.name, "bold"), note))
        if item.can:
            console.print(
                f"    could take {counted(item.can)}: {100 * item.bytes_share:.0f} % of the weights' bytes"
            )
        for reason, count in item.cannot.items():
            print_text(console, Padding(f"would leave {count}: {reason}", (0, 0, 0, 2)))


def _print_reasons(console: Console, found: Inspection) -> None:
    if not found.unsupported:
        return
    heading(console, f"Operators that stay in float on {found.target}")
    groups: dict[str, list[str]] = defaultdict(list)
    for operator, reason in found.unsupported.items():
        groups[reason or "no integer form"].append(operator)
    for reason, members in groups.items():
        print_text(console, f"{', '.join(members)}: {reason}")
