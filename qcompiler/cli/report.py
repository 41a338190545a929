"""``qcompile report FLOAT COMPILED``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcompiler.cli import options as cli
from qcompiler.cli.command import command
from qcompiler.cli.data import PlainReading, plain_names
from qcompiler.cli.logs import is_quiet


@command
def report_command(
    reference: Annotated[Path, typer.Argument(metavar="FLOAT", help="The float model, an .onnx file.")],
    compiled: Annotated[
        Path,
        typer.Argument(
            metavar="COMPILED",
            help="What was made of it: .onnx, by this compiler or another, .tvm, or a folder that holds one.",
        ),
    ],
    *,
    data: Annotated[
        str | None,
        typer.Option(
            help="Samples like those that the model will see, in every form of --calib. Default: random numbers.",
            metavar="PATH",
            rich_help_panel=cli.DATA,
        ),
    ] = None,
    reading: PlainReading,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Where the page goes. Default: MODEL.qc.report.html beside the compiled model.",
            metavar="FILE.html",
            rich_help_panel=cli.OUTPUT,
        ),
    ] = None,
    speed: Annotated[
        bool,
        typer.Option(
            "--speed/--no-speed", help="Time both models, and their nodes.", rich_help_panel=cli.VERIFICATION
        ),
    ] = True,
    threads: cli.Threads = 1,
    json: cli.Json = False,
) -> None:
    """Write all about a compiled model as one HTML file: bytes, speed, accuracy, nodes, what made it.

    8 samples are run where --samples does not say fewer.

    Example: qcompile report model.onnx model.qc.onnx --data data.npz -o report.html
    """
    from qcompiler.cli.models import require_files
    from qcompiler.cli.progress import progress_display
    from qcompiler.report.html.collect import collect
    from qcompiler.report.html.sources import sources_of_files
    from qcompiler.report.html.write import require_writable, write_page
    from qcompiler.report.json import to_json

    model, result = require_files([reference, compiled])
    path = output or result.with_suffix(".report.html")
    require_writable(path)
    with plain_names(), progress_display("reporting") as progress:
        options = reading.options(model)
        sources = sources_of_files(model, result, data, options, threads=threads, timed=speed)
        page = collect(sources, progress or _silent)
        write_page(page, path)
    if json:
        print(to_json(page))
    elif not is_quiet():
        print(f"wrote {path}")


def _silent(label: str, done: int, total: int | None) -> None:
    del label, done, total
