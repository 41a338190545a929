"""``qcompile export`` on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from qcompiler.report.console import plain_table, print_table, stdout_console
from qcompiler.report.units import megabytes, small

if TYPE_CHECKING:
    from qcompiler.models.export import ExportReport

Shapes = Mapping[str, tuple[int | str, ...]]


def print_export(report: ExportReport) -> None:
    """Print what was written and how well it agrees with torch."""
    console = stdout_console()
    console.print(f"wrote {report.model}", style="bold", soft_wrap=True)
    files = f"{megabytes(report.size_bytes)}" + (f", weights in {report.data.name}" if report.data else "")
    console.print(f"  {report.architecture}, opset {report.opset}, {files}")
    table = plain_table("", "name", "shape")
    for kind, shapes in (("input", report.inputs), ("output", report.outputs)):
        for name, shape in shapes.items():
            table.add_row(kind, name, f"[{', '.join(map(str, shape))}]")
    print_table(console, table)
    verified = " x ".join(map(str, report.verified_shape))
    console.print(f"  agrees with torch to {small(report.max_abs_error)} (largest error, at {verified})")
