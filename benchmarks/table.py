"""Render the JSON results as Markdown: ``python -m benchmarks.table [--results FOLDER]``.

Writes ``table.md`` beside the results, with every row; the command that made a model's rows stands under its name.
For the committed results it also writes the summaries into the README, between their markers.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks import llama_table, low_bit_table
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
    *low_bit_table.NAMES,
    "low_bit_solvers",
    llama_table.NAME,
    "llama_shape_memory",
    "narrow_weights",
    "auto_mobilenet",
    "auto_minilm",
    "auto_stories260k",
    "auto_pydoc_lm",
    "auto_predictions",
    "auto_estimates_stories260k",
    "auto_estimates_pydoc_lm",
    "auto_estimates_tinylm",
    "rotations",
    "tvm_kernels",
    "tvm_convolutions",
    "codebooks",
    "tvm_models",
    "tvm_codebooks",
)
MODELS = ORDER[: ORDER.index("calibration_memory")]
README = Path(__file__).parent.parent / "README.md"
START, END = "<!-- benchmarks.table -->", "<!-- end of benchmarks.table -->"
SUMMARY_HEAD = ("Model", "Made by", "Against float", "MB", "Speed")
SUMMARY_PEERS = ("quantize_static uint8 per channel", "quantize_dynamic per channel", "quantize_dynamic")
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


def summarize(results: Iterable[Result]) -> str:
    """A short table: per model the first pipeline of ours and the same peers of ONNX Runtime."""
    listed = list(results)
    lines = [_line(SUMMARY_HEAD), _line("---" for _ in SUMMARY_HEAD)]
    for result in listed:
        head = f"**{result.title}**<br>`{result.command}`"
        for row in _summary_rows(result):
            _, own, against, size, speed, *_ = _cells(row)
            lines.append(_line((head, row.name, "; ".join(filter(None, (own, against))), size, speed)))
            head = ""
    origins = dict.fromkeys(_origin(result) for result in listed)
    return "\n".join([*lines, "", *origins])


def _summary_rows(result: Result) -> list[Row]:
    ours = [row for row in result.rows if row.name.startswith("qcompiler")][:1]
    peers = [row for row in result.rows if row.name in SUMMARY_PEERS and not row.failure]
    return [*(row for row in result.rows if row.name == "float"), *ours, *peers]


def put_into(text: str, summary: str, *, start: str = START, end: str = END) -> str:
    """``text`` with ``summary`` between its markers."""
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{start}\n\n{summary}\n\n{end}{after}"


def updated(text: str, results: Mapping[str, Result]) -> str:
    """The README with its summaries written again."""
    models = [result for name, result in results.items() if name in MODELS]
    low_bit = low_bit_table.summarize_low_bit(results)
    text = put_into(text, summarize(models))
    text = put_into(text, low_bit, start=low_bit_table.START, end=low_bit_table.END)
    llama = llama_table.summarize_llama(results)
    return put_into(text, llama, start=llama_table.START, end=llama_table.END)


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
        f"{result.date}, {machine.processor} ({', '.join(machine.features)}), {machine.cores} cores, "
        f"one thread unless said, onnxruntime {result.versions['onnxruntime']}."
    )


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def read_results(folder: Path) -> list[Result]:
    """Results in the order of the table; those of other names come last."""
    return list(named_results(folder).values())


def named_results(folder: Path) -> dict[str, Result]:
    """Results by the names of their files, in the order of the table."""
    files = {path.stem: path for path in sorted(folder.glob("*.json"))}
    names = [name for name in ORDER if name in files] + [name for name in files if name not in ORDER]
    return {name: read_result(files[name]) for name in names}


def main() -> None:
    """Write ``table.md``, and the README's summary."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table")
    parser.add_argument("--results", type=Path, default=RESULTS)
    folder = parser.parse_args().results
    results = read_results(folder)
    (folder / "table.md").write_text(render(results), "utf-8")
    if folder == RESULTS:
        README.write_text(updated(README.read_text("utf-8"), named_results(folder)), "utf-8")


if __name__ == "__main__":
    main()
