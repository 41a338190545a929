"""``qcompile export DIR -o model.onnx``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from qcompiler.cli import options as cli
from qcompiler.cli.command import command
from qcompiler.cli.data import parse_size


@command
def export_command(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A local Transformers checkpoint.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    task: Annotated[
        str | None,
        typer.Option(help="What head to export. Default: the architecture that config.json names."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Default: the exporter's.", min=18, max=23)] = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", help="Inputs of the graph, by name. Repeatable.")
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Pixels: 224, or height x width: 480x640. Default: the checkpoint's.", metavar="SIZE"
        ),
    ] = None,
    attention: Annotated[
        Literal["sdpa", "eager"] | None, typer.Option(help="How attention is traced; eager is plainest.")
    ] = None,
    fusions: Annotated[
        Literal["cpu"] | None,
        typer.Option(help="cpu: fuse into ONNX Runtime's own operators. Default: standard operators."),
    ] = None,
    json: cli.Json = False,
) -> None:
    """Export a local Transformers checkpoint to ONNX and check it against torch.

    Example: qcompile export path/to/checkpoint -o model.onnx
    """
    from qcompiler.cli.progress import progress_display
    from qcompiler.models.export import export_transformers
    from qcompiler.report.export import print_export
    from qcompiler.report.json import to_json

    with progress_display("exporting"):
        report = export_transformers(
            directory,
            output,
            task=task,
            opset=opset,
            inputs=inputs,
            picture=parse_size(image_size),
            attention=attention,
            fusions=fusions,
        )
    if json:
        print(to_json(report))
    else:
        print_export(report)
