"""The page in headless Chromium: it draws, sorts, filters, obeys the keyboard, fits a phone, is legible in the dark."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from qcompiler.report.html.figures import figures
from tests.qcompiler.report.html.pages import page

if TYPE_CHECKING:
    from tests.qcompiler.report.html.conftest import Opened

PAGE = page(30)
COLUMN = {"#": 0, "Node": 1, "State": 3, "Bits": 6, "Bytes after": 8, "SQNR cumulative": 10}

CONTRAST = """() => {
  const channel = (value) => { const c = value / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const worst = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    const unseen = element.closest("svg, script, noscript, style, option, optgroup") || !element.checkVisibility();
    if (!own || unseen) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(behind(element))];
    worst.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), element.outerHTML.slice(0, 90)]);
  }
  return worst.sort((x, y) => x[0] - y[0])[0];
}"""
"""The lowest contrast between any text and what is behind it, by the formula of WCAG 2.2."""


def cells(found: Opened, column: str) -> list[str]:
    """Texts of a column of the table of nodes, of the rows that are shown."""
    found_rows: list[str] = found.evaluate(
        f"""[...document.querySelectorAll("#nodes-table tbody tr:not([hidden])")]
        .map((row) => row.cells[{COLUMN[column]}].textContent)"""
    )
    return found_rows


def sort_by(found: Opened, column: str) -> str:
    """Press the heading's button; return its ``aria-sort``."""
    header = found.page.locator("#nodes-table thead th").nth(COLUMN[column])
    header.locator("button").click()
    return str(header.get_attribute("aria-sort"))


def test_it_draws_without_a_word_or_a_request(desktop: Opened) -> None:
    assert desktop.evaluate("document.documentElement.dataset.charts") == "drawn"
    for name in figures(PAGE):
        drawn = desktop.evaluate(f"document.querySelectorAll('#chart-{name} svg.main-svg').length")
        assert drawn, name
    assert desktop.evaluate("document.querySelectorAll('#chart-bytes .slice').length") > len(PAGE.nodes)
    assert desktop.evaluate("document.querySelectorAll('#chart-histogram .bars .point').length") == 64
    assert desktop.messages == []
    assert len(desktop.requests) == 1  # the file itself


def test_no_name_of_a_node_runs(desktop: Opened) -> None:
    assert desktop.evaluate("window.hacked") is None
    assert desktop.evaluate("document.querySelectorAll('main img, main a[href^=javascript]').length") == 0
    assert "<script>window.hacked = 1</script>" in cells(desktop, "Node")


def test_scripts_that_are_not_its_own_are_refused(desktop: Opened) -> None:
    desktop.evaluate(
        """(() => { const made = document.createElement("script"); made.textContent = "window.hacked = 5";
        document.body.append(made); })()"""
    )
    assert desktop.evaluate("window.hacked") is None
    assert "Content Security Policy" in desktop.messages.pop()


def test_headings_sort_numbers_as_numbers_with_unknown_last(desktop: Opened) -> None:
    assert sort_by(desktop, "Bits") == "ascending"
    shown = cells(desktop, "Bits")
    known = [float(text) for text in shown if text != "–"]
    assert known == sorted(known)
    assert shown[len(known) :] == ["–"] * (len(shown) - len(known))
    assert sort_by(desktop, "Bits") == "descending"
    assert [float(text) for text in cells(desktop, "Bits")[: len(known)]] == known[::-1]
    assert sort_by(desktop, "#") == "ascending"
    assert cells(desktop, "#") == [str(node.place) for node in PAGE.nodes]
    sorted_headers = desktop.evaluate(
        "[...document.querySelectorAll('#nodes-table th[aria-sort]:not([aria-sort=none])')].length"
    )
    assert sorted_headers == 1


def test_the_filter_keeps_rows_with_all_words_and_says_how_many(desktop: Opened) -> None:
    box, state = desktop.page.locator("#filter-text"), desktop.page.locator("#filter-state")
    box.fill("layers.1 MATMUL")
    kept = [node.name for node in PAGE.nodes if "layers.1" in node.name]
    assert sorted(cells(desktop, "Node")) == sorted(kept)
    assert desktop.page.locator("#filter-count").text_content() == f"{len(kept)} of 30 nodes"
    box.fill("")
    state.select_option("float")
    assert len(cells(desktop, "Node")) == sum(node.state == "float" for node in PAGE.nodes)
    state.select_option("")
    assert desktop.page.locator("#filter-count").text_content() == "all 30 nodes"


def test_everything_is_reached_and_used_by_keyboard(desktop: Opened) -> None:
    keys = desktop.page.keyboard
    first = desktop.page.locator("a[href], button, input, select, summary, [tabindex]").first
    first.focus()
    assert first.get_attribute("class") == "skip"
    assert first.evaluate("element => element.getBoundingClientRect().left >= 0")
    desktop.page.locator("#filter-text").focus()
    keys.type("layers.12")
    assert len(cells(desktop, "Node")) == 1
    keys.press("Escape")
    assert len(cells(desktop, "Node")) == 30
    keys.press("Tab")  # state
    keys.press("Tab")  # the region that scrolls
    assert desktop.evaluate("document.activeElement.className") == "scroll"
    outline = desktop.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    keys.press("Tab")  # the first heading
    assert desktop.evaluate("document.activeElement.closest('th').cellIndex") == 0
    keys.press("Enter")
    assert desktop.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == "descending"
    keys.press("Space")
    assert desktop.evaluate("document.activeElement.closest('th').getAttribute('aria-sort')") == "ascending"


def test_another_histogram_is_drawn_and_said(desktop: Opened) -> None:
    choice = desktop.page.locator("#histogram-choice")
    choice.select_option("31")  # an activation whose range is chosen at run time
    assert "chosen at run time" in str(desktop.page.locator("#histogram-words").text_content())
    choice.select_option("4")
    words = str(desktop.page.locator("#histogram-words").text_content())
    assert words == (
        "weight layers.4.weight: values from -2 to 6; range of the codes: -1.5 to 1.5; 1.00 % beyond it."
    )
    assert desktop.evaluate("document.querySelectorAll('#chart-histogram .shapelayer path').length") == 2


def test_a_phone_scrolls_tables_and_not_the_page(phone: Opened) -> None:
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    wide = phone.evaluate("document.querySelector('#nodes .scroll').scrollWidth")
    assert wide > 390
    assert phone.messages == []
    small = phone.evaluate(
        """[...document.querySelectorAll("input, select, summary, nav a")].filter(
        (element) => element.checkVisibility() && element.getBoundingClientRect().height < 24).length"""
    )
    assert small == 0  # WCAG 2.2, target size: 24 by 24 pixels


def test_on_a_phone_bars_have_room_and_their_names_do_not_touch(phone: Opened) -> None:
    chart = "document.querySelector('#chart-nodes-latency')"
    bars = phone.evaluate(f"{chart}.querySelector('.barlayer').getBBox().width")
    assert bars > 0.5 * phone.evaluate(f"{chart}.clientWidth")
    tops = sorted(
        phone.evaluate(
            f"[...{chart}.querySelectorAll('.annotation')].map(e => e.getBoundingClientRect().top)"
        )
    )
    assert len(tops) == 12
    assert min(b - a for a, b in itertools.pairwise(tops)) > 24


def test_a_search_has_a_chart_of_size_and_one_of_time_with_its_bounds(desktop: Opened) -> None:
    for name, lines in (("front", 2), ("front-latency", 1)):
        drawn = desktop.evaluate(f"document.querySelectorAll('#chart-{name} .shapelayer path').length")
        assert drawn == lines, name
        assert "table below says the same" in desktop.evaluate(
            f"document.querySelector('#chart-{name}').ariaLabel"
        )


@pytest.mark.parametrize("view", ["desktop", "phone"])
def test_text_can_be_read_in_the_light_and_in_the_dark(view: str, request: pytest.FixtureRequest) -> None:
    found: Opened = request.getfixturevalue(view)
    ratio, where = found.evaluate(f"({CONTRAST})()")
    assert ratio >= 4.5, where


def test_charts_follow_light_and_dark(phone: Opened) -> None:
    axis = "document.querySelector('#chart-sqnr .xtick text').style.fill"
    dark = phone.evaluate(axis)
    phone.page.emulate_media(color_scheme="light")
    phone.wait_until(f"{axis} !== {dark!r}")
    background = phone.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == "rgb(255, 255, 255)"
    phone.page.emulate_media(color_scheme="dark")
