"""``qcompile compare A B``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcompiler.cli import options as cli
from qcompiler.cli.command import command
from qcompiler.cli.data import PlainReading, plain_names
from qcompiler.cli.models import Data


@command
def compare_command(
    reference: Annotated[Path, typer.Argument(metavar="A", help="The reference, an .onnx file.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="What is compared with it, an .onnx file.")],
    *,
    data: Data = None,
    reading: PlainReading,
    worst: Annotated[int, typer.Option(help="How many of the worst nodes to show.", min=0)] = 10,
    threads: cli.Threads = 1,
    json: cli.Json = False,
) -> None:
    """Compare two models on the same data, per node and end to end.

    Example: qcompile compare model.onnx model.qc.onnx --data data.npz --worst 20
    """
    from qcompiler.cli.models import feeds_for, require_files
    from qcompiler.cli.progress import progress_display
    from qcompiler.report.comparison import comparison_facts, print_comparison
    from qcompiler.report.json import to_json
    from qcompiler.verify.compare import compare_models

    reference, other = require_files([reference, other])
    with plain_names(), progress_display("comparing"):
        feeds = feeds_for(reference, data, reading.options(reference))
        found = compare_models(reference, other, feeds, threads=threads)
    facts = comparison_facts(found, str(reference), str(other), feeds.description, worst)
    if json:
        print(to_json(facts))
    else:
        print_comparison(facts)
