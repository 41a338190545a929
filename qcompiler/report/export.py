"""``qcompile export`` on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qcompiler.models.export_decoder import DecoderReport
from qcompiler.report.console import plain_table, print_table, print_text, stdout_console
from qcompiler.report.units import megabytes, small

if TYPE_CHECKING:
    from rich.console import Console

    from qcompiler.models.export import ExportReport

Shapes = Mapping[str, tuple[int | str, ...]]


def print_export(report: ExportReport | DecoderReport) -> None:
    """Print what was written and how well it agrees with torch."""
    console = stdout_console()
    console.print(f"wrote {report.model}", style="bold", soft_wrap=True)
    files = f"{megabytes(report.size_bytes)}" + (f", weights in {report.data.name}" if report.data else "")
    console.print(f"  {report.architecture}, opset {report.opset}, {files}")
    table = plain_table("", "name", "shape")
    for kind, shapes in (("input", report.inputs), ("output", report.outputs)):
        for name, shape in _one_layer(shapes).items():
            table.add_row(kind, name, f"[{', '.join(map(str, shape))}]")
    print_table(console, table)
    if isinstance(report, DecoderReport):
        _print_decoder(console, report)
        return
    verified = " x ".join(map(str, report.verified_shape))
    console.print(f"  agrees with torch to {small(report.max_abs_error)} (largest error, at {verified})")
    _print_notes(console, report)


def _one_layer(shapes: Shapes) -> Shapes:
    """Without the caches of all layers but the first, which look the same."""
    others = {name for name in shapes if name.split(".")[1:2] not in ([], ["0"])}
    return {name: shape for name, shape in shapes.items() if name not in others}


def _print_decoder(console: Console, report: DecoderReport) -> None:
    why = f" ({report.attention_reason})" if report.attention_reason else ""
    print_text(console, f"cache of {report.layers} layers; attention: {report.attention}{why}")
    print_text(console, f"beside it: {', '.join(name for name in report.files if '.onnx' not in name)}")
    print_text(
        console,
        f"agrees with torch to {small(report.max_abs_error)} (largest error of prefill and decode), "
        f"{report.same_tokens} greedy tokens the same",
    )
    _print_notes(console, report)


def _print_notes(console: Console, report: ExportReport | DecoderReport) -> None:
    for note in report.notes:
        print_text(console, f"note: {note}")
