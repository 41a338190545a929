"""Charts of the page, as Plotly figures.

Those without data are missing; a table beside each says the same.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qcompiler.report.html.chart import ACCENT, INK, MUTED, SURFACE, drawn, in_lines, safe, short_names
from qcompiler.report.html.front_chart import front_by_latency, front_by_size
from qcompiler.report.html.page import BytesPart, NodeRow, Page, Spread
from qcompiler.report.html.tiles import latencies_ms
from qcompiler.report.units import megabytes
from qcompiler.verify.metrics import EXACT_DB

if TYPE_CHECKING:
    import plotly.graph_objects as go

SLOWEST = 12
"""Nodes in the chart of times."""

LABEL = 26
"""Letters of a node's name beside a bar; the last ones tell nodes apart."""

_BITS = re.compile(r"(?:int|nf|fp|float|mx\w*?)(\d+)")


def figures(page: Page) -> dict[str, Any]:
    """By the name of its place in the page; a chart without data is missing."""
    made = {
        "bytes": _treemap(page.bytes),
        "sqnr": _sqnr(page.nodes),
        "histogram": _histogram(page.spreads),
        "latency": _latency(page),
        "nodes-latency": _slowest(page),
        "front": front_by_size(page),
        "front-latency": front_by_latency(page),
    }
    return {name: json.loads(figure.to_json()) for name, figure in made.items() if figure is not None}


def shade(format_words: str) -> str:
    """The variable that a format is drawn in: the fewer bits, the stronger; float is grey."""
    if format_words.startswith(("float", "bfloat")):
        return "var(--format-float)"
    bits = [int(found) for found in _BITS.findall(format_words.rpartition(" x ")[2])]
    if not bits:
        return "var(--format-other)"
    return f"var(--format-{8 if bits[0] >= 8 else 4 if bits[0] >= 4 else 3})"


def _treemap(parts: Sequence[BytesPart]) -> go.Figure | None:
    import plotly.graph_objects as go

    total = sum(item.size_bytes for item in parts)
    if not total:
        return None
    kinds = dict.fromkeys(item.format for item in parts)
    sums = {kind: sum(item.size_bytes for item in parts if item.format == kind) for kind in kinds}
    leaves = [item for item in parts if item.node]
    short = {
        name: shown
        for kind in kinds
        for name, shown in short_names([item.node for item in leaves if item.format == kind]).items()
    }
    names = ["all bytes", *kinds, *(item.node for item in leaves)]
    places = {kind: f"format {index}" for index, kind in enumerate(kinds)}
    sizes = [total, *sums.values(), *(item.size_bytes for item in leaves)]
    trace = go.Treemap(
        ids=["all", *places.values(), *(f"node {index}" for index in range(len(leaves)))],
        labels=["all bytes", *map(safe, kinds), *(in_lines(short[item.node]) for item in leaves)],
        parents=["", *["all"] * len(kinds), *(places[item.format] for item in leaves)],
        values=sizes,
        branchvalues="total",
        marker={
            "colors": ["rgba(0,0,0,0)", *map(shade, kinds), *(shade(item.format) for item in leaves)],
            "line": {"width": 1.5, "color": SURFACE},
            "pad": {"t": 22, "l": 3, "r": 3, "b": 3},
        },
        customdata=[[safe(name), megabytes(size)] for name, size in zip(names, sizes, strict=True)],
        text=[megabytes(size) for size in sizes],
        textinfo="label+text",
        textfont={"color": [INK, *map(_ink_on, kinds), *(_ink_on(item.format) for item in leaves)]},
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}, %{percentRoot:.1%} of the bytes<extra></extra>",
        pathbar={"visible": True, "thickness": 24},
        tiling={"pad": 2},
    )
    small = {"minsize": 10, "mode": "hide"}
    return drawn([trace], height=420, margin={"l": 0, "r": 0, "t": 28, "b": 0}, uniformtext=small)


def _ink_on(format_words: str) -> str:
    return shade(format_words).replace("--format", "--on-format")


def _sqnr(nodes: Sequence[NodeRow]) -> go.Figure | None:
    import plotly.graph_objects as go

    gathered = [(row, value) for row in nodes if (value := _shown_db(row.gathered_db)) is not None]
    alone = [(row, value) for row in nodes if (value := _shown_db(row.alone_db)) is not None]
    if not gathered and not alone:
        return None
    traces = [
        go.Scatter(
            x=[row.place for row, _ in points],
            y=[round(value, 2) for _, value in points],
            customdata=[safe(f"{row.name} ({row.op_type})") for row, _ in points],
            name=name,
            mode=mode,
            line={"color": ACCENT, "width": 1.5},
            marker={"color": colour, "size": size, "symbol": symbol},
            hovertemplate="%{customdata}<br>%{y:.1f} dB<extra>%{fullData.name}</extra>",
        )
        for points, name, mode, colour, size, symbol in (
            (gathered, "cumulative", "lines+markers", ACCENT, 5, "circle"),
            (alone, "this node alone", "markers", MUTED, 8, "circle-open"),
        )
        if points
    ]
    layout = {
        "xaxis": {"title": {"text": "node, in the order of the graph"}, "range": [0, nodes[-1].place + 1]},
        "yaxis": {"title": {"text": "SQNR, dB"}, "rangemode": "tozero"},
        "showlegend": True,
    }
    return drawn(traces, height=360, **layout)


def _shown_db(value: float | None) -> float | None:
    """Within a scale that can be read: exact values would flatten the others."""
    return value if value is not None and abs(value) < EXACT_DB / 2 else None


def _histogram(spreads: Sequence[Spread]) -> go.Figure | None:
    """The first histogram; the page puts the others into the same figure."""
    import plotly.graph_objects as go

    if not spreads:
        return None
    trace = go.Bar(
        x=[],
        y=[],
        marker={"color": ACCENT, "line": {"width": 0}},
        hovertemplate="%{x:.3g}: %{y:,} values<extra></extra>",
    )
    layout = {
        "bargap": 0,
        "xaxis": {"title": {"text": "value"}, "zeroline": False},
        "yaxis": {"title": {"text": "how many (log)"}, "type": "log", "dtick": 1},
    }
    return drawn([trace], height=340, **layout)


def _latency(page: Page) -> go.Figure | None:
    import plotly.graph_objects as go

    if page.speed is None:
        return None
    times = latencies_ms(page)[::-1]
    trace = go.Bar(
        x=times,
        y=["compiled", "float"],
        orientation="h",
        marker={"color": [ACCENT, MUTED]},
        text=[f"{value:.3g} ms" for value in times],
        textposition="auto",
        insidetextfont={"color": SURFACE},
        outsidetextfont={"color": INK},
        hovertemplate="%{y}: %{x:.4g} ms<extra></extra>",
    )
    layout = {
        "xaxis": {"title": {"text": "milliseconds a run, median"}, "rangemode": "tozero"},
        "yaxis": {"showgrid": False},
        "bargap": 0.35,
    }
    return drawn([trace], height=190, **layout)


def _slowest(page: Page) -> go.Figure | None:
    import plotly.graph_objects as go

    spent = sorted(page.nodes, key=lambda row: -max(row.before_us or 0.0, row.after_us or 0.0))
    shown = [row for row in spent[:SLOWEST] if row.before_us or row.after_us][::-1]
    if not shown:
        return None
    places = [f"{row.place}" for row in shown]
    short = short_names([row.name for row in shown])
    labels = [_label(short[row.name]) for row in shown]
    traces = [
        go.Bar(
            y=places,
            x=values,
            name=name,
            orientation="h",
            marker={"color": colour},
            customdata=[safe(row.name) for row in shown],
            hovertemplate="%{customdata}<br>%{x:.1f} µs<extra>%{fullData.name}</extra>",
        )
        for name, colour, values in (
            ("compiled", ACCENT, [row.after_us or 0.0 for row in shown]),
            ("float", MUTED, [row.before_us or 0.0 for row in shown]),
        )
    ]
    layout = {
        "barmode": "group",
        "bargap": 0.3,
        "showlegend": True,
        "xaxis": {"title": {"text": "microseconds"}},
        "yaxis": {"type": "category", "tickvals": places, "ticktext": labels, "showgrid": False},
        "legend": {"traceorder": "reversed", "xref": "container"},
    }
    return drawn(traces, height=130 + 34 * len(shown), margin={"l": 56, "r": 16, "t": 40, "b": 48}, **layout)


def _label(name: str) -> str:
    return safe(name if len(name) <= LABEL else f"…{name[1 - LABEL :]}")
