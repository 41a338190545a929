"""The page as a screen reader has it, by Chromium's accessibility tree, and words of charts against what is behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qcompiler.report.html.figures import figures
from tests.qcompiler.report.html.pages import page

if TYPE_CHECKING:
    from tests.qcompiler.report.html.conftest import Opened

PAGE = page(30)
NAMED = {
    "table",
    "image",
    "button",
    "combobox",
    "searchbox",
    "region",
    "search",
    "navigation",
    "DisclosureTriangle",
}

CHARTS = """() => {
  const channel = (value) => { const c = value / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const found = [];
  for (const words of document.querySelectorAll(".chart svg text")) {
    if (!words.textContent.trim() || !words.checkVisibility()) continue;
    const shape = words.closest(".slice, .point")?.querySelector("path");
    const inside = shape && (words.closest(".slice") || words.classList.contains("bartext-inside"));
    let behind = parse(getComputedStyle(document.body).backgroundColor);
    const drawn = inside && getComputedStyle(shape);
    if (drawn && drawn.fillOpacity === "1" && parse(drawn.fill).length === 3) behind = parse(drawn.fill);
    const [a, b] = [light(parse(getComputedStyle(words).fill)), light(behind)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    found.push([ratio, `${words.closest(".chart").id}: ${words.textContent.slice(0, 30)}`]);
  }
  return found.sort((x, y) => x[0] - y[0])[0];
}"""
"""The lowest contrast of any words in a chart, by the formula of WCAG 2.2."""


def tree(found: Opened) -> list[tuple[str, str]]:
    """Roles and names of all that is not hidden from a screen reader."""
    session = found.page.context.new_cdp_session(found.page)
    nodes: list[dict[str, Any]] = session.send("Accessibility.getFullAXTree")["nodes"]
    session.detach()
    return [
        (str(node["role"]["value"]), str(node.get("name", {}).get("value", "")).strip())
        for node in nodes
        if not node["ignored"]
    ]


def test_everything_that_is_used_or_looked_at_has_a_name(desktop: Opened) -> None:
    parts = tree(desktop)
    assert {role for role, _ in parts} >= NAMED
    assert [role for role, name in parts if role in NAMED and not name] == []


def test_a_chart_is_one_picture_in_words(desktop: Opened) -> None:
    parts = tree(desktop)
    pictures = [name for role, name in parts if role == "image"]
    assert len(pictures) == len(figures(PAGE))
    assert min(map(len, pictures)) > 20
    assert not [role for role, _ in parts if role.startswith(("Svg", "graphics"))]


def test_headings_of_tables_are_buttons_named_by_their_words_alone(desktop: Opened) -> None:
    buttons = [name for role, name in tree(desktop) if role == "button"]
    assert {"Packed bits", "SQNR alone", "Reason"} <= set(buttons)
    assert not [name for name in buttons if set(name) & set("↕↑↓")]
    unsorted = desktop.evaluate("document.querySelectorAll('.sortable thead th:not([aria-sort])').length")
    assert unsorted == 0


def test_cells_have_headings_of_rows_and_columns(desktop: Opened) -> None:
    roles = [role for role, _ in tree(desktop)]
    assert roles.count("rowheader") >= len(PAGE.nodes)
    assert roles.count("columnheader") >= 15
    assert "status" in roles  # how many rows the filter left


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_of_charts_can_be_read(phone: Opened, scheme: str) -> None:
    """4.5:1, as of other text."""
    before = phone.evaluate("document.querySelector('#chart-sqnr .xtick text').style.fill")
    if scheme == "light":
        phone.page.emulate_media(color_scheme="light")
        phone.wait_until(f"document.querySelector('#chart-sqnr .xtick text').style.fill !== {before!r}")
        phone.page.wait_for_timeout(300)  # all charts, after the first
    ratio, where = phone.evaluate(f"({CHARTS})()")
    phone.page.emulate_media(color_scheme="dark")
    assert ratio >= 4.5, where
