"""The figures at the top of the page: size, speed, accuracy, bits."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.report.html.page import Page
from qcompiler.report.search_facts import SearchFacts
from qcompiler.report.units import megabytes
from qcompiler.verify.metrics import format_db


@dataclass(frozen=True)
class Tile:
    """One figure of the summary."""

    name: str
    figure: str
    text: str
    is_number: bool = True


def tiles(page: Page) -> list[Tile]:
    """All of them, in the order in which they are asked for."""
    accuracy = _accuracy(page) if page.search is None else _metric(page, page.search)
    return [_size(page), _speed(page), accuracy, *_weights(page)]


def _size(page: Page) -> Tile:
    """Bytes before and after."""
    after = megabytes(page.size_after_bytes)
    if not page.size_before_bytes:
        return Tile("Size", after, "of a model in memory")
    ratio = page.size_before_bytes / max(page.size_after_bytes, 1)
    figure = f"{ratio:.2f}× smaller" if ratio >= 1 else f"{1 / ratio:.2f}× larger"
    return Tile("Size", figure, f"{megabytes(page.size_before_bytes)} → {after}")


def _speed(page: Page) -> Tile:
    """Against float by the clock, or why not; a search holds its own figures against the bounds."""
    if page.search is not None and page.search.float_model.latency_ms:
        before, after = page.search.float_model.latency_ms, page.search.measured.latency_ms
        again = "" if page.speed is None else f"; timed again for this page: {speed_interval(page)}"
        figure = f"{before / max(after, 1e-9):.2f}× as fast"
        return Tile("Speed", figure, f"{before:.3g} → {after:.3g} ms a run during the search{again}")
    if page.speed is None:
        return Tile("Speed", "not measured", page.untimed, is_number=False)
    speed, (before, after) = page.speed, latencies_ms(page)
    times = f"{before:.3g} → {after:.3g} ms a feed"
    interval = f"95 % interval {speed.low:.2f} to {speed.high:.2f}"
    return Tile("Speed", f"{speed.ratio:.2f}× as fast", f"{times}; {interval}, {thread_count(speed.threads)}")


def _accuracy(page: Page) -> Tile:
    """Of the worst output of what runs."""
    outputs = [item for item in page.outputs if item.comparison == "deployed"]
    if not outputs:
        return Tile("Accuracy", "not measured", "the outputs were not compared", is_number=False)
    floats = [item for item in outputs if item.is_float]
    of = f"output {outputs[0].value}" if len(outputs) == 1 else f"the worst of {len(outputs)} outputs"
    if not floats:
        worst = min(outputs, key=lambda item: item.exact_share)
        return Tile("Accuracy", f"{worst.exact_share:.1%} equal", of)
    lowest = min(floats, key=lambda item: item.sqnr_db)
    return Tile("Accuracy", format_db(lowest.sqnr_db), f"SQNR, cosine {lowest.cosine:.4f}; {of}")


def _metric(page: Page, found: SearchFacts) -> Tile:
    """What the user judges by, and whether its bound holds."""
    bound, drop = found.bounds.max_drop, found.measured.loss
    holds = "" if bound is None else f", at most {bound:g}: {'kept' if drop <= bound else 'NOT kept'}"
    sqnr = _accuracy(page)
    text = f"{found.float_value:.5g} in float; drop {drop:.4g}{holds}"
    if sqnr.is_number:
        text += f". Outputs: {sqnr.figure}"
    return Tile(found.metric, f"{found.value:.5g}", text)


def _weights(page: Page) -> list[Tile]:
    """Bits of a weight, by both definitions; none where they are not known."""
    if page.achieved_bits is None or not page.parameters:
        return []
    of = (
        f"{page.parameters / 1e6:.3g} M weights" if page.parameters >= 1e5 else f"{page.parameters:,} weights"
    )
    text = f"every constant in the file, over {of}"
    if page.quantized_bits:
        asked = "" if page.search is not None else f" ({page.requested_bits:g} asked for)"
        text += f"; packed bits, codes and scales of what is in few bits: {page.quantized_bits:.2f}{asked}"
    return [Tile("Stored bits a weight", f"{page.achieved_bits:.1f}", text)]


def latencies_ms(page: Page) -> tuple[float, float]:
    """Milliseconds of a run, float and compiled: of the search where there was one, else of this page."""
    if page.search is not None and page.search.float_model.latency_ms:
        return page.search.float_model.latency_ms, page.search.measured.latency_ms
    assert page.speed is not None
    feeds = max(page.timed_feeds, 1)
    return page.speed.float_ms / feeds, page.speed.deployed_ms / feeds


def speed_interval(page: Page) -> str:
    """How many times as fast as float, with its interval."""
    speed = page.speed
    assert speed is not None
    return f"{speed.ratio:.2f} times as fast, 95 % interval {speed.low:.2f} to {speed.high:.2f}"


def thread_count(count: int) -> str:
    """``1 thread``."""
    return f"{count} thread{'s' if count > 1 else ''}"
