"""``qcompile diagnose FLOAT QUANTIZED``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcompiler.cli import options as cli
from qcompiler.cli.command import command
from qcompiler.cli.data import PlainReading, plain_names


@command
def diagnose_command(
    reference: Annotated[Path, typer.Argument(metavar="FLOAT", help="The float model, an .onnx file.")],
    quantized: Annotated[
        Path, typer.Argument(metavar="QUANTIZED", help="What was made of it, by this compiler or another.")
    ],
    *,
    data: Annotated[
        str | None,
        typer.Option(
            help="Samples like those that the model will see, in every form that --calib takes.",
            metavar="PATH",
            rich_help_panel=cli.DATA,
        ),
    ] = None,
    reading: PlainReading,
    suspects: Annotated[
        int, typer.Option(help="Nodes, and activations, whose effect on the outputs is measured.", min=0)
    ] = 8,
    outlier_ratio: Annotated[
        float, typer.Option(help="An outlier channel is so many times the median one.", min=1.0)
    ] = 10.0,
    worst: Annotated[int, typer.Option(help="How many of the worst nodes to show.", min=1)] = 8,
    threads: cli.Threads = 1,
    json: cli.Json = False,
) -> None:
    """Find what is to blame for the accuracy that a quantized model lost, and what to do about it.

    8 samples are run where --samples does not say.

    Example: qcompile diagnose model.onnx model.qc.onnx --data data.npz
    """
    from qcompiler.cli.models import require_files
    from qcompiler.cli.progress import progress_display
    from qcompiler.diagnosis.run import DiagnoseOptions, diagnose
    from qcompiler.report.diagnosis import print_diagnosis
    from qcompiler.report.json import to_json

    require_files([reference, quantized])
    with plain_names(), progress_display("diagnosing") as progress:
        options = DiagnoseOptions(
            suspects=suspects,
            outlier_ratio=outlier_ratio,
            threads=threads,
            data=reading.options(reference),
        )
        found = diagnose(reference, quantized, data, options=options, progress=progress)
    if json:
        print(to_json(found))
    else:
        print_diagnosis(found, worst)
