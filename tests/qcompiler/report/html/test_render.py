"""The page as text: what it holds, that names are only ever text, that it needs nothing else, how large it is."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from html.parser import HTMLParser

import pytest

from qcompiler.report.html.figures import figures, shade
from qcompiler.report.html.page import Page
from qcompiler.report.html.render import render
from tests.qcompiler.report.html.pages import HOSTILE, page

VOID = {"meta", "link", "input", "img", "br", "wbr", "hr"}
MOST_BYTES = 3_000_000
"""What a page about 200 nodes may take."""


class Outline(HTMLParser):
    """What a page is made of; fails where tags do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.rows and {"td", "th"} & set(self.open[-4:]):
            self.rows[-1][-1] += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def text() -> str:
    return render(page())


@pytest.fixture(scope="module")
def outline(text: str) -> Outline:
    parsed = Outline()
    parsed.feed(text)
    assert parsed.open == []
    return parsed


def test_names_of_nodes_are_text(outline: Outline) -> None:
    cells = [cell for row in outline.rows for cell in row]
    assert set(HOSTILE) <= set(cells)
    scripts = outline.named("script")
    assert len(scripts) == 3  # data, Plotly packed, the page's own
    assert not outline.named("img")
    assert all(str(link["href"]).startswith("#") for link in outline.named("a"))
    assert not any(name.startswith("on") for _, attributes in outline.tags for name in attributes)


def test_names_in_attributes_stay_there() -> None:
    made = page(3)
    assert (
        min(made.nodes, key=lambda node: node.gathered_db or 0).name == HOSTILE[2]
    )  # the chart's label names it
    parsed = Outline()
    parsed.feed(render(made))
    (label,) = [str(item["aria-label"]) for item in parsed.named("div") if item.get("id") == "chart-sqnr"]
    assert HOSTILE[2] in label
    assert not parsed.named("img")


def test_data_of_charts_cannot_end_their_element(text: str) -> None:
    (block,) = re.findall(r'<script type="application/json" id="page-data">(.*?)</script>', text, re.S)
    assert "<" not in block
    found = json.loads(block)
    assert found["spreads"][0]["name"] == HOSTILE[1]
    # Plotly reads markup in text, so names are escaped a second time
    assert not re.search("<script|<img|<a ", json.dumps(found["figures"]))


def test_the_page_needs_nothing_else(outline: Outline, text: str) -> None:
    (policy,) = [item for item in outline.named("meta") if item.get("http-equiv")]
    content = str(policy["content"])
    assert content.startswith("default-src 'none'")
    assert re.search(r"script-src 'sha256-[^']+' 'sha256-[^']+';", content)
    without_plotly = re.sub(r'id="plotly-packed">.*?</script>', "", text, flags=re.S)
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", without_plotly)
    assert all("src" not in item for item in outline.named("script"))


def test_200_nodes_take_less_than_3_megabytes() -> None:
    assert len(render(page(200)).encode()) < MOST_BYTES


def test_headings_do_not_skip_a_level_and_every_chart_has_words(outline: Outline) -> None:
    levels = [int(heading[1]) for heading in outline.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    charts = [item for item in outline.named("div") if item.get("class") == "chart"]
    assert {str(item["id"]) for item in charts} == {f"chart-{name}" for name in figures(page())}
    assert all(item["role"] == "img" and item["aria-label"] for item in charts)


def test_tables_have_captions_headings_and_regions(outline: Outline) -> None:
    tables = outline.named("table")
    assert len(outline.named("caption")) == len(tables)
    regions = [item for item in outline.named("div") if item.get("class") == "scroll"]
    assert len(regions) == len(tables)
    assert all(item["tabindex"] == "0" and item["role"] == "region" for item in regions)
    assert all(item.get("scope") in ("row", "col") for item in outline.named("th"))
    assert {"main", "header", "footer", "nav", "section"} <= {tag for tag, _ in outline.tags}


def test_ids_are_unique_and_links_lead_somewhere(outline: Outline) -> None:
    ids = [str(attributes["id"]) for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(item["href"])[1:] for item in outline.named("a")} <= set(ids)
    used = [
        str(attributes[name])
        for _, attributes in outline.tags
        for name in ("for", "aria-labelledby", "aria-controls")
        if name in attributes
    ]
    assert {word for words in used for word in words.split()} <= set(ids)


def test_every_node_has_a_row_with_its_figures(outline: Outline) -> None:
    rows = {row[1]: row for row in outline.rows if len(row) == 15}
    for node in page().nodes:
        cells = rows[node.name]
        assert cells[0] == str(node.place)
        assert cells[2] == node.op_type
        assert cells[6] == ("–" if node.bits is None else f"{node.bits:.2f}")
        assert cells[7] == f"{node.size_before_bytes:,}"
        assert cells[12] == ("–" if node.before_us is None else f"{node.before_us / 10:.1f} %")  # of 1000 µs
        assert cells[14].startswith(node.reason)


def test_figures_of_the_summary() -> None:
    text = render(page(3, front=False))
    for words in (
        "smaller",
        "1.70× as fast",
        "24.5 dB",
        "3 → 1.75 ms a feed",
        "packed bits, codes and scales of what is in few bits: 4.63",
    ):
        assert words in text


def test_a_search_is_summed_up_by_what_its_bounds_are_about(text: str) -> None:
    for words in (
        "2.11× as fast",
        "2 → 0.95 ms a run during the search; timed again for this page: 1.70 times as fast",
        "0.92 in float; drop 0.008, at most 0.05: kept",
        "1.5 min",
        "packed bits a weight",
    ):
        assert words in text


def test_what_is_not_known_is_said() -> None:
    bare = dataclasses.replace(
        page(3, hostile=False, front=False),
        speed=None,
        untimed="--verify numerics leaves it out",
        times=None,
        outputs=(),
        spreads=(),
        achieved_bits=None,
        manifest="",
        recipe="",
        command="",
        nodes=tuple(
            dataclasses.replace(
                node, before_us=None, after_us=None, size_after_bytes=None, alone_db=None, gathered_db=None
            )
            for node in page(3).nodes
        ),
    )
    text = render(bare)
    assert set(figures(bare)) == {"bytes"}
    for words in (
        "not measured",
        "The model was not timed: --verify numerics leaves it out.",
        "The outputs were not compared.",
        "No histograms",
        "Time of each node: nobody knows.",
        "No manifest of this compiler lies beside the model.",
    ):
        assert words in text
    assert 'id="search"' not in text


def test_a_larger_result_is_called_larger() -> None:
    assert "× larger" in render(dataclasses.replace(page(3), size_before_bytes=100))


def test_fewer_bits_are_drawn_stronger() -> None:
    words = (
        "float32",
        "uint8 x int8 weight",
        "int4 g32 asymmetric",
        "int3 per channel",
        "graph and metadata",
    )
    assert [shade(item)[13:-1] for item in words] == ["float", "8", "4", "3", "other"]


def test_bytes_of_the_treemap_add_up() -> None:
    made: Page = page(20)
    trace = figures(made)["bytes"]["data"][0]
    below = dict.fromkeys(trace["parents"], 0)
    for parent, size in zip(trace["parents"], trace["values"], strict=True):
        below[parent] += size
    assert below[""] == below["all"] == made.size_after_bytes
    assert len(set(trace["ids"])) == len(trace["ids"])
