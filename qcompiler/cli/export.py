"""``qcompile export DIR -o OUT/`` and ``qcompile export DIR -o model.onnx``"""

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
    output: Annotated[Path, typer.Option("--output", "-o", help="A folder, or the .onnx file to write.")],
    task: Annotated[
        str | None,
        typer.Option(help="What head to export. Default: the architecture that config.json names."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="Default: the exporter's.", min=18, max=23)] = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input", metavar="NAME", help="An input of the graph. Repeatable. Default: all it can have."
        ),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            help="Pixels: 224, or height x width: 480x640. Default: the checkpoint's.", metavar="SIZE"
        ),
    ] = None,
    attention: Annotated[
        Literal["sdpa", "eager", "plain"] | None,
        typer.Option(
            help="How attention is traced; eager is plainest. plain: with a cache, but standard operators."
        ),
    ] = None,
    fusions: Annotated[
        Literal["cpu"] | None,
        typer.Option(help="cpu: fuse into ONNX Runtime's own operators. Default: standard operators."),
    ] = None,
    cache: Annotated[
        bool | None,
        typer.Option(
            help="A decoder's graph with its cache, for generating. Default: with it when -o is a folder."
        ),
    ] = None,
    json: cli.Json = False,
) -> None:
    """Export a local Transformers checkpoint to ONNX and check it against torch.

    A decoder becomes a language-model folder: one graph for prefill and decode, tokenizer and configurations.

    Example: qcompile export path/to/decoder -o lm/

    Example: qcompile export path/to/encoder -o model.onnx
    """
    from qcompiler.cli.progress import progress_display
    from qcompiler.models.export_choice import ExportChoice, export_checkpoint
    from qcompiler.report.export import print_export
    from qcompiler.report.json import to_json

    choice = ExportChoice(
        cache=cache,
        task=task,
        opset=opset,
        inputs=tuple(inputs) if inputs else None,
        picture=parse_size(image_size),
        attention=attention,
        fusions=fusions,
    )
    with progress_display("exporting"):
        report = export_checkpoint(directory, output, choice)
    if json:
        print(to_json(report))
    else:
        print_export(report)
