"""Facts of a page in the words that it shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.report.facts import Hint, ValueFacts
from qcompiler.report.html.figures import SLOWEST
from qcompiler.report.html.page import NodeRow, Page, Spread, State
from qcompiler.report.html.tiles import Tile, latencies_ms, speed_interval, thread_count, tiles
from qcompiler.report.html.times import RUNS
from qcompiler.report.layers import by_layer
from qcompiler.report.search import search_words
from qcompiler.report.units import counted, megabytes, shares, small
from qcompiler.verify.metrics import EXACT_DB, format_db

STATE_WORDS: dict[State, str] = {
    "integer": "quantized",
    "stored": "quantized, run in float",
    "float": "not quantized",
}
"""``integer``: run by an integer or low-bit kernel; ``stored``: its weight is expanded before it is used."""

WORST = 20


@dataclass(frozen=True)
class FormatRow:
    """Bytes of one format."""

    format: str
    nodes: int
    size_bytes: int
    share: float


@dataclass(frozen=True)
class OutputRow:
    """One output, or the worst of all layers of one kind."""

    name: str
    comparison: str
    sqnr: str
    sqnr_value: float
    cosine: str
    cosine_value: float | None
    error: str
    error_value: float


@dataclass(frozen=True)
class AssignedRow:
    """Nodes that a search gave one choice."""

    choice: str
    groups: int
    share: float
    op_types: str
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class View:
    """What the template asks for."""

    page: Page

    @property
    def title(self) -> str:
        return Path(self.page.result).name

    @property
    def lead(self) -> str:
        passes = ", ".join(
            dict.fromkeys(word.partition(":")[0] for word in self.page.pipeline.split(",") if word)
        )
        by = f" by {passes}" if passes else ""
        return f"{Path(self.page.model).name}, compiled for {self.page.target.partition(':')[0]}{by}."

    @property
    def tiles(self) -> list[Tile]:
        return tiles(self.page)

    @property
    def facts(self) -> list[tuple[str, str]]:
        page = self.page
        states = Counter(row.state for row in page.nodes)
        kernels = Counter(row.kernel for row in page.nodes if row.state == "integer" and row.kernel)
        nodes = ", ".join(f"{states[state]} {words}" for state, words in STATE_WORDS.items() if states[state])
        found = [
            ("Model", page.model),
            ("Result", page.result),
            ("Target", page.target),
            ("Passes", page.pipeline),
            ("Nodes", nodes),
            ("Kernels of quantized nodes", counted(dict(kernels.most_common()))),
            ("Accuracy measured on", page.data),
        ]
        return [(name, text) for name, text in found if text]

    @property
    def notes(self) -> list[tuple[str, list[Hint], str]]:
        page = self.page
        found: list[tuple[str, Sequence[str | Hint], str]] = [
            ("Warnings", page.warnings, "warn"),
            ("Who is to blame for the error", page.verdict, "warn"),
            ("Notes", page.search.notes if page.search is not None else (), ""),
            ("Findings", page.findings, ""),
            ("What this report cannot say", page.unknown, ""),
            ("Next", page.hints, ""),
        ]
        return [
            (title, [line if isinstance(line, Hint) else Hint(line) for line in lines], kind)
            for title, lines, kind in found
            if lines
        ]

    @property
    def formats(self) -> list[FormatRow]:
        total = sum(item.size_bytes for item in self.page.bytes)
        sizes: Counter[str] = Counter()
        nodes: Counter[str] = Counter()
        for item in self.page.bytes:
            sizes[item.format] += item.size_bytes
            nodes[item.format] += bool(item.node)
        return [FormatRow(name, nodes[name], size, size / total) for name, size in sizes.most_common()]

    @property
    def outputs(self) -> list[OutputRow]:
        kinds = dict.fromkeys(item.comparison for item in self.page.outputs)
        return [
            _output(name, item)
            for kind in kinds
            for name, item in by_layer(item for item in self.page.outputs if item.comparison == kind)
        ]

    @property
    def worst(self) -> list[NodeRow]:
        known = [row for row in self.page.nodes if row.gathered_db is not None and row.gathered_db < EXACT_DB]
        return sorted(known, key=lambda row: row.gathered_db or 0.0)[:WORST]

    @property
    def sqnr_label(self) -> str:
        worst = self.worst
        if not worst:
            return "SQNR along the graph."
        return (
            f"SQNR along the graph; the lowest is {db(worst[0].gathered_db or 0.0)} dB at {worst[0].name}. "
            "The table below has the lowest, the table of nodes all."
        )

    @property
    def search_words(self) -> str:
        """What a search took."""
        return "" if self.page.search is None else search_words(self.page.search)

    @property
    def assignment(self) -> list[AssignedRow]:
        """What each choice was taken for."""
        found = self.page.search.assignment if self.page.search is not None else ()
        total = max(sum(each.parameters for each in found), 1)
        return [
            AssignedRow(each.choice, each.groups, each.parameters / total, counted(each.op_types), each.nodes)
            for each in found
        ]

    @property
    def slowest(self) -> list[NodeRow]:
        spent = sorted(self.page.nodes, key=lambda row: -max(row.before_us or 0.0, row.after_us or 0.0))
        return [row for row in spent[:SLOWEST] if row.before_us or row.after_us]

    @property
    def runs(self) -> int:
        return RUNS

    @property
    def speed_words(self) -> str:
        page = self.page
        if page.speed is None:
            return ""
        before, after = latencies_ms(page)
        if page.search is None or not page.search.float_model.latency_ms:
            times = f"{before:.3g} ms a feed in float, {after:.3g} ms compiled"
            return f"{times}: {speed_interval(page)}, measured in turn on {thread_count(page.speed.threads)}."
        return (
            f"{before:.3g} ms a run in float, {after:.3g} ms compiled, measured in turn during the search. Timed again "
            f"for this page by the clock on the wall, for which other processes count: {speed_interval(page)}, "
            f"{thread_count(page.speed.threads)}."
        )

    @property
    def other_words(self) -> str:
        times = self.page.times
        if times is None:
            return ""
        before = shares(times.before_other_us, times.before_us)
        return f"Of no node: {before} in float, {shares(times.after_other_us, times.after_us)} compiled."

    @property
    def choices(self) -> dict[str, list[tuple[int, Spread]]]:
        kinds: dict[str, list[tuple[int, Spread]]] = {"weight": [], "activation": []}
        for index, item in enumerate(self.page.spreads):
            kinds[item.kind].append((index, item))
        return kinds

    @property
    def states(self) -> list[tuple[State, int]]:
        found = Counter(row.state for row in self.page.nodes)
        return [(state, found[state]) for state in STATE_WORDS if found[state]]

    @property
    def state_words(self) -> dict[State, str]:
        return STATE_WORDS

    @property
    def left_out(self) -> str:
        if not self.page.left_out:
            return ""
        return (
            f" Left out of a large graph, as they hold no weight and take next to no time: "
            f"{counted(self.page.left_out)}."
        )

    def share(self, spent_us: float | None, which: int) -> float | None:
        """Of one run, float (0) or compiled (1)."""
        times = self.page.times
        if times is None or spent_us is None:
            return None
        return spent_us / max((times.before_us, times.after_us)[which], 1e-9)


def _output(name: str, item: ValueFacts) -> OutputRow:
    return OutputRow(
        name,
        item.comparison,
        format_db(item.sqnr_db) if item.is_float else f"{item.exact_share:.1%} equal",
        item.sqnr_db if item.is_float else item.exact_share,
        f"{item.cosine:.4f}" if item.is_float else "",
        item.cosine if item.is_float else None,
        small(item.max_abs_error),
        item.max_abs_error,
    )


def db(value: float) -> str:
    """Decibels, and words at the ends of the scale."""
    if value >= EXACT_DB:
        return "exact"
    return "none" if value <= -EXACT_DB else f"{value:.1f}"


def percent(value: float) -> str:
    """One digit behind the point."""
    return f"{100 * value:.1f} %"


def bits(value: float) -> str:
    return f"{value:.2f}"


def count(value: int) -> str:
    return f"{value:,}"


def microseconds(value: float) -> str:
    return f"{value:,.1f}"


def all_words() -> Iterable[tuple[str, object]]:
    """Functions that the template uses."""
    return [(item.__name__, item) for item in (db, percent, bits, count, microseconds, small, megabytes)]
