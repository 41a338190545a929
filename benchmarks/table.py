"""Render the JSON results as one Markdown table: ``python -m benchmarks.table [--results FOLDER]``.

Writes ``table.md`` beside the results. The command that made a model's rows stands under its name.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from benchmarks.results_file import RESULTS, Result, Row, Speed, read_result

ORDER = (
    "minilm",
    "mobilenet",
    "resnet20",
    "magika",
    "silero_vad",
    "ultraface",
    "digits",
    "pydoc_lm",
    "calibration_memory",
)
HEAD = ("Model", "Made by", "Scores", "Against float", "MB", "Speed", "Compile, s", "Peak, MB")
UNITS = ("%", "dB")


def render(results: Iterable[Result]) -> str:
    """One table, a line for every row of every result, and where it was measured."""
    listed = list(results)
    lines = [_line(HEAD), _line("---" for _ in HEAD)]
    lines += [_line(cells) for result in listed for cells in _rows(result)]
    origins = dict.fromkeys(_origin(result) for result in listed)
    return "\n".join([*lines, "", *(f"{origin}\n" for origin in origins)])


def _rows(result: Result) -> Iterable[tuple[str, ...]]:
    head = f"**{result.title}**: {result.data}<br>`{result.command}`"
    for row in result.rows:
        yield (head, *_cells(row))
        head = ""


def _cells(row: Row) -> tuple[str, ...]:
    if row.failure:
        return (row.name, f"failed: {row.failure}", "", "", "", "", "")
    return (
        row.name,
        _scores(row.scores.own),
        _scores(row.scores.against_float),
        "" if row.size_bytes is None else f"{row.size_bytes / 1e6:.2f}",
        ", ".join(_speed(shape, one, alone=len(row.speed) == 1) for shape, one in row.speed.items()),
        "" if row.seconds is None else f"{row.seconds:.1f}",
        "" if row.peak_bytes is None else f"{row.peak_bytes / 1e6:.0f}",
    )


def _scores(scores: dict[str, float]) -> str:
    return ", ".join(score(label, value) for label, value in scores.items())


def score(label: str, value: float) -> str:
    """``("top-1 %", 84.0)`` is ``top-1 84.0 %``: a unit goes behind the figure."""
    name, _, unit = label.rpartition(" ")
    return f"{name} {value:.4g} {unit}" if unit in UNITS else f"{label} {value:.4g}"


def _speed(shape: str, one: Speed, *, alone: bool) -> str:
    return f"{one.median:.2f}x" if alone else f"{one.median:.2f}x ({shape})"


def _origin(result: Result) -> str:
    machine = result.machine
    return (
        f"{result.date}, {machine.processor} ({', '.join(machine.features)}), {machine.cores} cores, one thread, "
        f"onnxruntime {result.versions['onnxruntime']}."
    )


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def read_results(folder: Path) -> list[Result]:
    """Results in the order of the table; those of other names come last."""
    files = {path.stem: path for path in sorted(folder.glob("*.json"))}
    names = [name for name in ORDER if name in files] + [name for name in files if name not in ORDER]
    return [read_result(files[name]) for name in names]


def main() -> None:
    """Write ``table.md``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table")
    parser.add_argument("--results", type=Path, default=RESULTS)
    folder = parser.parse_args().results
    (folder / "table.md").write_text(render(read_results(folder)), "utf-8")


if __name__ == "__main__":
    main()
