"""Charts of the models that a search looked at: loss over size, and loss over latency, with the bounds as lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qcompiler.report.html.chart import ACCENT, INK, MUTED, drawn, safe
from qcompiler.report.html.page import FrontRow, Page
from qcompiler.report.search_facts import SearchFacts
from qcompiler.report.units import megabytes, small

if TYPE_CHECKING:
    import plotly.graph_objects as go

_KINDS = (
    ("front", "found", ACCENT, "circle", "lines+markers"),
    ("uniform", "one choice everywhere", MUTED, "square-open", "markers"),
    ("float", "float", INK, "diamond", "markers"),
)
_WIDE = 30.0
"""Losses that lie further apart than this are told apart on a logarithmic axis only."""

_HEADROOM = 1.12
_MARGIN = 0.06
"""Of the axis, below a loss of 0, so that its points are whole."""


def front_by_size(page: Page) -> go.Figure | None:
    """Loss over bytes."""
    shown = _measured(page)
    if page.search is None or not shown:
        return None
    most = page.search.bounds.max_size_bytes
    scale, unit = (1e3, "kB") if max(row.size_bytes for row in shown) < 1e6 else (1e6, "MB")
    limit = None if most is None else most / scale
    return _chart(page.search, shown, _Axis(f"size, {unit}", lambda row: row.size_bytes / scale, limit))


def front_by_latency(page: Page) -> go.Figure | None:
    """Loss over milliseconds; None where models were not timed."""
    shown = _measured(page)
    if page.search is None or not any(row.latency_ms for row in shown):
        return None
    bounds, before = page.search.bounds, page.search.float_model.latency_ms
    limits = [] if bounds.max_latency_ms is None else [bounds.max_latency_ms]
    limits += [] if bounds.max_latency_ratio is None else [bounds.max_latency_ratio * before]
    axis = _Axis("a run, milliseconds", lambda row: row.latency_ms, min(limits, default=None))
    return _chart(page.search, shown, axis)


def _measured(page: Page) -> list[FrontRow]:
    """Models that were only predicted have a loss in another unit."""
    return [row for row in page.front if row.loss is not None]


@dataclass(frozen=True)
class _Axis:
    """What is drawn from left to right, and the bound on it."""

    title: str
    of: Callable[[FrontRow], float]
    limit: float | None


def _chart(found: SearchFacts, shown: Sequence[FrontRow], axis: _Axis) -> go.Figure:
    import plotly.graph_objects as go

    losses = [row.loss or 0.0 for row in shown]
    heights = _Heights.of(losses, found.bounds.max_drop)
    traces = [
        _points([row for row in shown if row.kind == kind], style, axis, heights)
        for kind, *style in _KINDS
        if any(row.kind == kind for row in shown)
    ]
    chosen = [row for row in shown if row.chosen]
    ring = go.Scatter(
        x=[axis.of(row) for row in chosen],
        y=[heights.at(row) for row in chosen],
        name="chosen",
        mode="markers",
        cliponaxis=False,
        marker={"size": 18, "symbol": "circle-open", "color": INK, "line": {"width": 2}},
        hoverinfo="skip",
    )
    ends = {"rangemode": "tozero"} if axis.title.startswith("a run") else {}
    layout = {
        "showlegend": True,
        "xaxis": {"title": {"text": axis.title}} | ends,
        "yaxis": {"title": {"text": f"drop of {safe(found.metric)}"}, **heights.axis},
        "shapes": _lines(axis.limit, found.bounds.max_drop),
        "annotations": _names(axis.limit, found.bounds.max_drop, heights),
        "margin": {"l": 56, "r": 16, "t": 56, "b": 48},
    }
    return drawn([*traces, *([ring] if chosen else [])], height=400, **layout)


@dataclass(frozen=True)
class _Heights:
    """The axis of losses: logarithmic where they lie far apart; what is not above 0 stands at its lower end then."""

    axis: dict[str, Any]
    floor: float | None

    @classmethod
    def of(cls, losses: Sequence[float], bound: float | None) -> _Heights:
        above = [loss for loss in (*losses, bound or 0.0) if loss > 0]
        if above and max(above) > _WIDE * min(above):
            return cls({"type": "log", "dtick": 1, "exponentformat": "none"}, min(above) / 2)
        top, bottom = max([*above, 0.0]) or 0.01, min([*losses, 0.0])
        margin = _MARGIN * (top - bottom)
        return cls({"range": [bottom - margin, _HEADROOM * top], "zeroline": True}, None)

    def at(self, row: FrontRow) -> float:
        loss = row.loss or 0.0
        return loss if self.floor is None else max(loss, self.floor)


def _points(rows: Sequence[FrontRow], style: Sequence[str], axis: _Axis, heights: _Heights) -> Any:
    import plotly.graph_objects as go

    name, colour, symbol, mode = style
    ordered = sorted(rows, key=axis.of)
    time = [f", {small(row.latency_ms)} ms" if row.latency_ms else "" for row in ordered]
    return go.Scatter(
        x=[axis.of(row) for row in ordered],
        y=[heights.at(row) for row in ordered],
        customdata=[
            [safe(row.label), f"{megabytes(int(row.size_bytes))}{spent}, drop {row.loss:.4g}"]
            for row, spent in zip(ordered, time, strict=True)
        ],
        name=name,
        mode=mode if axis.title.startswith("size") else "markers",
        cliponaxis=False,
        line={"color": colour, "width": 1.5, "shape": "hv"},
        marker={"color": colour, "size": 9, "symbol": symbol},
        hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
    )


def _lines(limit: float | None, drop: float | None) -> list[dict[str, Any]]:
    line = {"color": INK, "width": 1.5, "dash": "dash"}
    upright = {"type": "line", "x0": limit, "x1": limit, "y0": 0, "y1": 1, "yref": "paper", "line": line}
    level = {"type": "line", "x0": 0, "x1": 1, "xref": "paper", "y0": drop, "y1": drop, "line": line}
    return [*([] if limit is None else [upright]), *([level] if drop else [])]


def _names(limit: float | None, drop: float | None, heights: _Heights) -> list[dict[str, Any]]:
    """What the lines are; the place on a logarithmic axis is given by its logarithm."""
    import math

    text = {"showarrow": False, "font": {"size": 12, "color": INK}}
    upright = {
        "x": limit,
        "y": 1,
        "yref": "paper",
        "yanchor": "top",
        "xanchor": "right",
        "text": "bound ",
    } | text
    level = {"x": 1, "xref": "paper", "xanchor": "right", "yanchor": "bottom", "text": "bound"} | text
    if drop:
        level["y"] = math.log10(drop) if heights.floor is not None else drop
    return [*([] if limit is None else [upright]), *([level] if drop else [])]
