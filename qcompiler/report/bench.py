"""``qcompile bench`` on a terminal and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from qcompiler.measure.beside import KernelPair
from qcompiler.report.console import plain_table, print_table, stdout_console
from qcompiler.report.units import megabytes

if TYPE_CHECKING:
    from rich.console import Console

    from qcompiler.measure.bench import BenchReport
    from qcompiler.measure.beside import Beside

SLOWER_SHOWN = 10


@dataclass(frozen=True)
class BenchRow:
    """One model; ``ratio`` is the first model's time over this one's, None for the first itself."""

    path: str
    size_bytes: int
    median_ms: float
    best_ms: float
    ratio: float | None
    ratio_low: float | None
    ratio_high: float | None
    load_ms: float | None
    resident_mb: float | None


@dataclass(frozen=True)
class KernelsBeside:
    """Kernels of a native library beside the first model's nodes, on the first feed.

    Attributes:
        path: of the library.
        pairs: all nodes that both run, and everything else.
        slower: names of those that the library loses time in, the largest loss first.
    """

    path: str
    pairs: tuple[KernelPair, ...]
    slower: tuple[str, ...]


@dataclass(frozen=True)
class BenchFacts:
    """All models on the same feeds; times are per pass over all of them."""

    data: str
    shapes: dict[str, str]
    feeds: int
    threads: int
    memory_note: str
    models: tuple[BenchRow, ...]
    kernels: tuple[KernelsBeside, ...] = ()


def bench_facts(
    found: BenchReport,
    feeds: Sequence[Mapping[str, npt.NDArray[Any]]],
    data: str,
    beside: Mapping[str, Beside],
) -> BenchFacts:
    """The figures of ``found``, measured on ``feeds`` of ``data``; ``beside`` by paths of libraries."""
    rows = [
        BenchRow(
            path=str(item.path),
            size_bytes=item.size_bytes,
            median_ms=item.latency.median_ms,
            best_ms=item.latency.best_ms,
            ratio=item.ratio.median if item.ratio else None,
            ratio_low=item.ratio.low if item.ratio else None,
            ratio_high=item.ratio.high if item.ratio else None,
            load_ms=item.load_ms,
            resident_mb=item.resident_mb,
        )
        for item in found.models
    ]
    shapes = {name: "x".join(map(str, array.shape)) or "scalar" for name, array in feeds[0].items()}
    kernels = tuple(
        KernelsBeside(path, (*item.pairs, item.rest), tuple(pair.node for pair in item.slower))
        for path, item in beside.items()
    )
    return BenchFacts(data, shapes, found.feeds, found.threads, found.memory_note, tuple(rows), kernels)


def print_bench(facts: BenchFacts) -> None:
    """One row a model."""
    console = stdout_console()
    shapes = ", ".join(_shapes(facts.shapes))
    threads = f"{facts.threads} thread{'s' if facts.threads > 1 else ''}"
    console.print(f"{facts.feeds} feeds of {shapes}; {threads}", style="bold", soft_wrap=True)
    console.print(f"  data: {facts.data}", soft_wrap=True)
    numbers = ("size", "median ms", "speed", "load ms", "memory MB")
    table = plain_table("model", *numbers, right=numbers)
    for row in facts.models:
        table.add_row(
            row.path,
            megabytes(row.size_bytes),
            f"{row.median_ms / facts.feeds:.3f}",
            _speed(row),
            "" if row.load_ms is None else f"{row.load_ms:.0f}",
            "" if row.resident_mb is None else f"{row.resident_mb:.0f}",
        )
    print_table(console, table)
    console.print("  median ms is per feed; speed is the first model's time over this one's.", style="dim")
    if facts.memory_note:
        console.print(f"  no memory figures: {facts.memory_note}", style="dim")
    for item in facts.kernels:
        _print_slower(console, item, facts.models[0].path)


def _print_slower(console: Console, item: KernelsBeside, first: str) -> None:
    """What a library loses time in."""
    if not item.slower:
        count = len(item.pairs)
        line = f"No kernel of {item.path} is slower than its node in {first} ({count} compared)."
        console.print(line, soft_wrap=True)
        return
    by_name = {pair.node: pair for pair in item.pairs}
    title = f"Kernels of {item.path} that are slower than their nodes in {first}"
    console.print(f"{title}: {len(item.slower)} of {len(item.pairs)}", style="bold", soft_wrap=True)
    numbers = ("us there", "us here", "speed")
    table = plain_table("node", "there", "here", *numbers, right=numbers)
    for name in item.slower[:SLOWER_SHOWN]:
        pair = by_name[name]
        times = (f"{pair.runtime_us:.0f}", f"{pair.library_us:.0f}", f"{pair.speed:.2f}x")
        table.add_row(name, pair.runtime_op, pair.library_op, *times)
    print_table(console, table)


def _shapes(shapes: Mapping[str, str]) -> list[str]:
    """Inputs that hold something; a decoder has an empty cache in many more."""
    empty = [name for name, shape in shapes.items() if "0" in shape.split("x")]
    shown = [f"{name} {shape}" for name, shape in shapes.items() if name not in empty]
    return [*shown, f"{len(empty)} empty inputs"] if empty else shown


def _speed(row: BenchRow) -> str:
    if row.ratio is None:
        return "1"
    return f"{row.ratio:.2f}x [{row.ratio_low:.2f}, {row.ratio_high:.2f}]"
