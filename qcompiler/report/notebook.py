"""What results show in a notebook: a short table, without scripts, all text escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qcompiler.report.units import counted, megabytes
from qcompiler.verify.metrics import format_db

if TYPE_CHECKING:
    from qcompiler.auto.outcome import SearchResult
    from qcompiler.diagnosis.facts import Diagnosis
    from qcompiler.result import CompileResult
    from qcompiler.verify.speed import SpeedCheck

Rows = Sequence[tuple[str, str]]

WORST = 5
"""Nodes of a diagnosis that are shown."""


def summary_html(title: str, rows: Rows, lines: Sequence[str] = ()) -> str:
    """A table of names and figures, and sentences below it; the notebook's own colours.

    Args:
        title: of the table.
        rows: empty texts are left out.
        lines: warnings and the like.
    """
    cells = "".join(
        f'<tr><th scope="row" style="text-align:left">{html.escape(name)}</th>'
        f'<td style="text-align:left">{html.escape(text)}</td></tr>'
        for name, text in rows
        if text
    )
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    below = f"<ul>{items}</ul>" if items else ""
    caption = f'<caption style="text-align:left"><b>{html.escape(title)}</b></caption>'
    return f"<div><table>{caption}<tbody>{cells}</tbody></table>{below}</div>"


def result_html(result: CompileResult) -> str:
    """The summary of a compile."""
    manifest = result.manifest
    before, after = (sum(file.size_bytes for file in files) for files in (manifest.source, manifest.result))
    ratio = before / max(after, 1)
    change = f"{ratio:.2f}× smaller" if ratio >= 1 else f"{1 / max(ratio, 1e-9):.2f}× larger"
    size = f"{megabytes(before)} → {megabytes(after)} ({change})" if before else ""
    quantized = [node for node in manifest.nodes if node.kernel]
    integer = sum(1 for node in quantized if node.integer)
    rows = (
        ("pipeline", ", ".join(item.name for item in manifest.pipeline)),
        ("target", manifest.target.name),
        ("size", size or megabytes(after)),
        ("stored bits", f"{manifest.bits.achieved:.1f} a weight, every constant in the file counted"),
        ("speed", _speed(result.speed)),
        ("accuracy", _accuracy(result)),
        ("quantized nodes", f"{len(quantized)}, {integer} of them run by an integer or low-bit kernel"),
    )
    return summary_html(str(result.path), rows, result.warnings)


def _speed(found: SpeedCheck | None) -> str:
    if found is None:
        return "not measured"
    return f"{found.ratio:.2f}× float (95 % interval {found.low:.2f} to {found.high:.2f})"


def _accuracy(result: CompileResult) -> str:
    if result.verification is None:
        return "not measured"
    outputs = result.verification.deployed.outputs
    floats = [item for item in outputs if item.is_float]
    if not floats:
        return f"{min((item.exact_share for item in outputs), default=1.0):.1%} equal"
    worst = min(floats, key=lambda item: item.sqnr_db)
    return f"{format_db(worst.sqnr_db)}, cosine {worst.cosine:.4f} ({worst.value})"


def search_html(found: SearchResult) -> str:
    """What a search found: the bounds' quantities in float, predicted and measured, and what nodes got."""
    columns = (("float", found.float_model), ("predicted", found.predicted), ("measured", found.measured))
    got = {choice: sum(len(group.nodes) for group in groups) for choice, groups in found.by_choice().items()}
    rows = (
        (found.metric, f"{found.float_value:.5g} float, {found.value:.5g} compiled"),
        ("packed bits", f"{found.bits:.2f} a weight, scales counted, 32 in float"),
        ("size", ", ".join(f"{megabytes(int(each.size_bytes))} {name}" for name, each in columns)),
        (
            "latency",
            ", ".join(f"{each.latency_ms:.3g} ms {name}" for name, each in columns if each.latency_ms),
        ),
        ("nodes", counted(got)),
        ("recipe", str(found.recipe)),
        ("search", f"{found.tried} models compiled in {found.seconds / 60:.1f} min"),
    )
    return summary_html(str(found.result.path), rows, found.notes)


def diagnosis_html(found: Diagnosis) -> str:
    """The verdict of a diagnosis, its worst nodes and what to do."""
    worst = sorted(found.nodes, key=lambda item: item.alone_db)[:WORST]
    outputs = [f"{item.value}: {format_db(item.sqnr_db)}" for item in found.outputs if item.is_float]
    rows = (
        ("data", found.data),
        ("outputs", ", ".join(outputs[:WORST])),
        *((f"{item.name} alone", f"{format_db(item.alone_db)}, {item.kind}") for item in worst),
        *((item.text, item.command) for item in found.remedies[:WORST]),
    )
    return summary_html(f"{found.quantized} against {found.reference}", rows, found.verdict)
