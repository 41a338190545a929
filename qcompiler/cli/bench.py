"""``qcompile bench A B ...``"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qcompiler.cli import options as cli
from qcompiler.cli.command import command
from qcompiler.cli.data import PlainReading, plain_names
from qcompiler.cli.models import Data

FEEDS = 4
"""Feeds that one timed pass runs, at most: enough to vary, few enough to repeat."""


@command
def bench_command(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="The first is the baseline.")],
    *,
    data: Data = None,
    reading: PlainReading,
    threads: cli.Threads = 1,
    seconds: Annotated[float, typer.Option(help="Time budget of the latency measurement.", min=0.1)] = 30.0,
    rounds: Annotated[int, typer.Option(help="Interleaved rounds.", min=3)] = 15,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Also measure load time and resident memory.")
    ] = True,
    json: cli.Json = False,
) -> None:
    """Time models against each other: interleaved, medians, ratios, load time, resident memory.

    Of a native library behind a model of ONNX Runtime, it also says which kernels are slower than that model's nodes.

    Example: qcompile bench model.onnx model.qc.onnx --data data.npz --threads 1
    """
    from itertools import islice

    from qcompiler.cli.models import feeds_for, require_files
    from qcompiler.cli.progress import progress_display
    from qcompiler.measure.bench import bench_models
    from qcompiler.measure.beside import comparable, kernels_beside
    from qcompiler.report.bench import bench_facts, print_bench
    from qcompiler.report.json import to_json

    models = require_files(models)
    with plain_names(), progress_display("measuring"):
        source = feeds_for(models[0], data, reading.options(models[0]))
        feeds = list(islice(iter(source), FEEDS))
        found = bench_models(
            models, feeds, threads=threads, rounds=rounds, max_seconds=seconds, with_memory=memory
        )
        beside = {
            str(model): kernels_beside(models[0], model, feeds[0], threads=threads)
            for model in models[1:]
            if comparable(models[0], model)
        }
    facts = bench_facts(found, feeds, source.description, beside)
    if json:
        print(to_json(facts))
    else:
        print_bench(facts)
