"""The README's summary of few bits: a line for each way to make them, a column for each text that was scored."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.results_file import Result, Row

NAMES = ("low_bit_stories260k", "low_bit_pydoc_lm", "low_bit_tinylm")
START, END = "<!-- benchmarks.low_bit -->", "<!-- end of benchmarks.low_bit -->"
BITS = "bits a weight"
NO_HEAD = ":lm_head=false"

SHOWN = (
    "float", "matmul_nbits rtn", "matmul_nbits hqq", "matmul_nbits k_quant", "matmul_nbits gptq", "qcompiler int4",
    "qcompiler int4:solver=hqq", "qcompiler int4:solver=k_quant", "qcompiler awq,int4", "qcompiler int4:solver=gptq",
    "qcompiler int4:solver=gptq:sequential=false", "qcompiler int4:solver=gptaq",
    "qcompiler int4:solver=gptaq, ort-cpu", "qcompiler nf4", "qcompiler q4_k_m",
    "qcompiler int3", "qcompiler int3:solver=gptq", "qcompiler int3:solver=gptq:sequential=false",
    "qcompiler int3:solver=gptaq",
)  # fmt: skip


def summarize_low_bit(results: Mapping[str, Result]) -> str:
    """Perplexities of the rows that are shown, by the names of the result files; those absent have no column."""
    found = {name: results[name] for name in NAMES if name in results}
    rows = {name: {row.name: row for row in result.rows} for name, result in found.items()}
    columns = [
        (name, score)
        for name, result in found.items()
        for score in result.rows[0].scores.own
        if score != BITS
    ]
    heads = [_head(name, score) for name, score in columns]
    lines = ["| Made by | Bits | " + " | ".join(heads) + " |", "| --- " * (2 + len(heads)) + "|"]
    for shown in SHOWN:
        if any(shown in of_model for of_model in rows.values()):
            cells = [_cell(rows[name], shown, score) for name, score in columns]
            lines.append("| " + " | ".join([shown, _bits(rows, shown), *cells]) + " |")
    commands = ", ".join(f"`{result.command}`" for result in found.values())
    return "\n".join([*lines, "", f"{commands}; a second figure leaves the output product in float."])


def _head(name: str, score: str) -> str:
    model = name.removeprefix("low_bit_")
    return model if score == "perplexity" else f"{model}, {score}"


def _cell(rows: Mapping[str, Row], shown: str, score: str) -> str:
    figures = [_figure(rows.get(name), score) for name in (shown, f"{shown}{NO_HEAD}")]
    return " / ".join(figure for figure in figures if figure)


def _figure(row: Row | None, score: str) -> str:
    if row is None:
        return ""
    return "failed" if row.failure else f"{row.scores.own[score]:.4g}"


def _bits(rows: Mapping[str, Mapping[str, Row]], shown: str) -> str:
    found = [of_model[shown].scores.own.get(BITS) for of_model in rows.values() if shown in of_model]
    known = sorted({f"{bits:.3g}" for bits in found if bits is not None})
    return " to ".join(dict.fromkeys((known[0], known[-1]))) if known else ""
