"""What all charts of the page have in common.

Colours are names of CSS variables, which the page resolves, so that charts follow light and dark.  Names of nodes are
escaped: Plotly reads a little HTML in text.
"""

from __future__ import annotations

import html
import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

ACCENT, MUTED, INK, LINE, SURFACE = (
    "var(--accent)",
    "var(--muted)",
    "var(--ink)",
    "var(--line)",
    "var(--surface)",
)

FONTS = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica Neue, Arial, sans-serif"
"""Those of the page: no chart brings its own."""


def drawn(traces: Sequence[Any], *, height: int, **layout: Any) -> go.Figure:
    """A figure with the settings of all: calm axes, no background, names of CSS variables for colours."""
    import plotly.graph_objects as go

    figure = go.Figure(data=list(traces))
    axis = {
        "gridcolor": LINE,
        "linecolor": LINE,
        "zerolinecolor": LINE,
        "tickcolor": LINE,
        "automargin": True,
        "fixedrange": True,
    }
    settings: dict[str, Any] = {
        "template": "none",
        "height": height,
        "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {
            "color": INK,
            "size": 13,
            "family": FONTS,
        },
        "margin": {"l": 56, "r": 16, "t": 12, "b": 48},
        "hoverlabel": {"bgcolor": SURFACE, "bordercolor": LINE, "font": {"color": INK}},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"color": INK}},
    }
    merged = settings | layout
    merged["legend"] = settings["legend"] | layout.get("legend", {})
    for name in ("xaxis", "yaxis"):
        merged[name] = axis | layout.get(name, {})
        if "title" in merged[name]:
            merged[name]["title"] = merged[name]["title"] | {"font": {"size": 13, "color": MUTED}}
    figure.update_layout(**merged)
    return figure


def safe(text: str) -> str:
    """Text that Plotly shows as it is."""
    return html.escape(text, quote=False)


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names of nodes without the first and last parts of a path that all of them share."""
    paths = {name: name.strip("/").split("/") for name in names}
    if len(paths) < 2:
        return {name: name for name in names}
    first, last = _alike(paths.values()), _alike(path[::-1] for path in paths.values())
    shown = {name: path[first : len(path) - last] or path[-1:] for name, path in paths.items()}
    return {name: "/".join(path) for name, path in shown.items()}


def _alike(paths: Iterable[list[str]]) -> int:
    """How many parts all paths begin with."""
    columns = zip(*paths, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda parts: len(set(parts)) == 1, columns))


def in_lines(name: str, width: int = 14) -> str:
    """A name as lines of about ``width`` letters, broken behind its slashes; escaped."""
    lines = [""]
    for part in name.replace("/", "/\n").split("\n"):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "<br>".join(map(safe, lines))
