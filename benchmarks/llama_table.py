"""The README's summary of a language model's speed: tokens a second, and what the machine could do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from benchmarks.results_file import Result, Row

NAME = "llama_speed"
START, END = "<!-- benchmarks.llama_speed -->", "<!-- end of benchmarks.llama_speed -->"
HEAD = ("Made by", "Decode tokens/s", "Prefill tokens/s", "Weights read at", "MB in memory", "MB on disk")
THREADS = {"1t": "1 thread", "2t": "2 threads"}
MEMORY = "reading memory"
PRODUCT = "one product"


def summarize_llama(results: Mapping[str, Result]) -> str:
    """A line for every model, then what the machine could do at best; "" where it was not measured."""
    if NAME not in results:
        return ""
    result = results[NAME]
    models = [row for row in result.rows if row.size_bytes is not None]
    lines = [_line(HEAD), _line("---" for _ in HEAD), *(_line(_cells(row)) for row in models)]
    return "\n".join(
        [*lines, "", _ceilings(result), "", f"{result.title}, {result.data}: `{result.command}`."]
    )


def _cells(row: Row) -> tuple[str, ...]:
    own = row.scores.own
    return (
        row.name,
        _both(row, "decode"),
        _both(row, "prefill"),
        " / ".join(f"{own[f'of reading the weights once, {at} %']:.0f} %" for at in THREADS.values()),
        f"{own['MB resident, after generating']:.0f}",
        f"{(row.size_bytes or 0) / 1e6:.0f}",
    )


def _both(row: Row, phase: str) -> str:
    """Tokens a second on one and two threads, and how many times those of float32."""
    return " / ".join(
        f"{row.scores.own[f'{phase} tokens/s, {at}']:.0f} ({row.speed[f'{phase}, {short}'].median:.1f}x)"
        for short, at in THREADS.items()
    )


def _ceilings(result: Result) -> str:
    memory = next(row for row in result.rows if row.name == MEMORY)
    rates = " / ".join(f"{memory.scores.own[f'GB/s, {at}']:.0f}" for at in THREADS.values())
    product = next(row for row in result.rows if row.name.startswith(PRODUCT))
    ratios = " / ".join(f"{product.speed[f'prefill, {short}'].median:.1f}x" for short in THREADS)
    return (
        f"Figures are for one / two threads. What this machine can do: it reads {rates} GB of memory a second (100 % "
        f"would read every weight once a token and do nothing else), and int8 makes {_name(product)} {ratios} as fast: "
        "prefill, which is nine tenths products, cannot gain much more."
    )


def _name(product: Row) -> str:
    """Without the form it is in."""
    return product.name.partition(":")[0]


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
