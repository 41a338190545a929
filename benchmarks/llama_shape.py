"""How much memory and time does compiling a language model of a billion parameters take?

    python -m benchmarks.llama_shape make OUT/model.onnx [--layers 22] [--seed 0]
    python -m benchmarks.llama_shape memory OUT [--results FOLDER]

``make`` writes a model of Llama's shape with random weights (:mod:`benchmarks.llama_graph`).  ``memory`` writes such
models into ``OUT`` where they are not there yet (4.4 GB for 22 layers), compiles each in a fresh process, and records
seconds, most resident memory and bytes on disk.  GPTQ runs on the model of 2 layers: it goes layer by layer, so memory
does not grow with them, and its time for all is 11 times that of these two.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.compare import save_samples
from benchmarks.contender import OURS, Contender, Job, run_job
from benchmarks.llama_graph import Shape, write
from benchmarks.results_file import RESULTS, Row, make_result, this_machine, write_result
from benchmarks.table import render

NAME = "llama_shape_memory"
TITLE = "Compiling a Llama of 1.1 billion parameters"
DATA = "random weights; GPTQ on random tokens, windows of 128"
WINDOWS, LENGTH = 64, 128
TIMEOUT_SECONDS = 3600.0


@dataclass(frozen=True)
class Case:
    """One compile that is measured.

    Attributes:
        calibrated: whether it needs data.
    """

    passes: str
    layers: int
    calibrated: bool = False


CASES = (
    Case("int4", 22),
    Case("int8_dynamic", 22),
    Case("gptq", 2, calibrated=True),
)


def model_of(folder: Path, layers: int) -> Path:
    """The model of so many layers in ``folder``, written now if it is not there."""
    path = folder / f"llama-{layers}" / "model.onnx"
    return path if path.exists() else write(Shape(layers=layers), path)


def save_windows(path: Path, shape: Shape, windows: int = WINDOWS, length: int = LENGTH) -> Path:
    """Random tokens as calibration data: ``windows`` samples of ``length`` tokens, nothing cached."""
    tokens = np.random.default_rng(0).integers(shape.vocabulary, size=(windows, length))
    nothing = np.zeros((windows, shape.kv_heads, 0, shape.head_size), np.float32)
    caches = {
        f"past_key_values.{layer}.{part}": nothing
        for layer in range(shape.layers)
        for part in ("key", "value")
    }
    return save_samples(path, {"input_ids": tokens, "attention_mask": np.ones_like(tokens), **caches})


def measure(folder: Path, case: Case) -> Row:
    """Compile without verification, which reads the float model too."""
    model, output = model_of(folder, case.layers), folder / "compiled" / "model.onnx"
    output.parent.mkdir(parents=True, exist_ok=True)
    calibration = save_windows(folder / "tokens.npz", Shape(case.layers)) if case.calibrated else None
    job = Job(
        contender=Contender(tool=OURS, passes=case.passes),
        model=model,
        output=output,
        calibration=calibration,
        verify="none",
    )
    cost = run_job(job, timeout_seconds=TIMEOUT_SECONDS)
    name = f"{OURS} {case.passes}, {case.layers} layers"
    if cost.failure:
        return Row(name=name, failure=cost.failure)
    size_bytes = sum(path.stat().st_size for path in output.parent.glob("*.onnx*"))
    return Row(name=name, seconds=cost.seconds, peak_bytes=cost.peak_bytes, size_bytes=size_bytes)


def _memory(folder: Path, results: Path, cases: Sequence[Case] = CASES) -> int:
    machine = this_machine()
    rows = []
    for case in cases:
        rows.append(measure(folder, case))
        print(rows[-1].model_dump_json(exclude_defaults=True), file=sys.stderr, flush=True)
    command = "python -m benchmarks.llama_shape memory OUT"
    result = make_result(TITLE, DATA, command, tuple(rows), machine)
    write_result(result, results / f"{NAME}.json")
    print(render([result]))
    return int(any(row.failure for row in rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked; return an exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.llama_shape")
    commands = parser.add_subparsers(dest="command", required=True)
    make = commands.add_parser("make", help="write a model with random weights")
    make.add_argument("out", type=Path, help="the .onnx file; its weights go beside it")
    make.add_argument("--layers", type=int, default=Shape.layers)
    make.add_argument("--seed", type=int, default=0)
    memory = commands.add_parser("memory", help="measure what compiling costs")
    memory.add_argument("out", type=Path, help="folder for models; needs about 6 GB")
    memory.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    if given.command == "memory":
        return _memory(given.out, given.results)
    print(write(Shape(layers=given.layers), given.out, given.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
