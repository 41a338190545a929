"""How much memory and time does compiling a language model of a billion parameters take?

    python -m benchmarks.llama_shape make OUT/model.onnx [--layers 22] [--seed 0]
    python -m benchmarks.llama_shape memory OUT [--results FOLDER]

``make`` writes a model of Llama's shape with random weights (:mod:`benchmarks.llama_graph`).  ``memory`` writes such
models into ``OUT`` where they are not there yet (4.4 GB for 22 layers), compiles each in a fresh process within a
``--max-ram``, and records seconds, most resident memory and bytes on disk; a compile that took more memory than it was
allowed is a failure.  GPTQ goes layer by layer, so that its memory does not grow with them: it runs on 1 and on 2
layers, and the processor time for 22 is a projection, that of 2 and 20 times what the second layer added.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.compare import save_samples
from benchmarks.contender import OURS, Contender, Job, run_job
from benchmarks.llama_graph import Shape, write
from benchmarks.results_file import RESULTS, Row, Scores, make_result, rounded, this_machine, write_result
from benchmarks.table import render

NAME = "llama_shape_memory"
TITLE = "Compiling a Llama of 1.1 billion parameters"
DATA = (
    "random weights, 4.4 GB of float32 in 22 layers; GPTQ on 64 windows of 128 random tokens, verified on 2; "
    "peak is resident memory, pages of mapped files included"
)
WINDOWS, LENGTH, VERIFIED = 64, 128, 2
TIMEOUT_SECONDS = 3600.0
GB = 1_000_000_000
PROCESSOR = "processor s"


@dataclass(frozen=True)
class Case:
    """One compile that is measured.

    Attributes:
        calibrated: whether it needs data.
        verify: random weights lose more than trained ones, so that any cosine passes.
        max_ram: as given to ``--max-ram``, in GB.
    """

    passes: str
    layers: int
    max_ram: float
    calibrated: bool = False
    verify: Literal["none", "numerics"] = "none"

    @property
    def name(self) -> str:
        layers = f"{self.layers} layer{'s' if self.layers > 1 else ''}"
        return f"{OURS} {self.passes}, {layers}, --verify {self.verify} --max-ram {self.max_ram:g}G"


CASES = (
    Case("int4", 22, 1.5),
    Case("int4", 22, 3.5, verify="numerics"),
    Case("gptq", 1, 4, calibrated=True),
    Case("gptq", 2, 4, calibrated=True),
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
    """Compile within the memory allowed."""
    model, output = model_of(folder, case.layers), folder / "compiled" / "model.onnx"
    output.parent.mkdir(parents=True, exist_ok=True)
    shape = Shape(case.layers)
    verified = case.verify != "none"
    job = Job(
        contender=Contender(tool=OURS, passes=case.passes),
        model=model,
        output=output,
        calibration=save_windows(folder / "tokens.npz", shape) if case.calibrated else None,
        verification=save_windows(folder / "verified.npz", shape, VERIFIED) if verified else None,
        verify=case.verify,
        min_cosine=-1,
        max_ram_bytes=int(case.max_ram * GB),
    )
    cost = run_job(job, timeout_seconds=TIMEOUT_SECONDS)
    over = cost.peak_bytes > case.max_ram * GB
    if failure := cost.failure or ("took more memory than --max-ram allows" if over else ""):
        return Row(name=case.name, failure=failure)
    return Row(
        name=case.name,
        scores=Scores(own={PROCESSOR: rounded(cost.processor_seconds)}),
        seconds=cost.seconds,
        peak_bytes=cost.peak_bytes,
        size_bytes=sum(path.stat().st_size for path in output.parent.glob("*.onnx*")),
    )


def projection(one: Row, two: Row, layers: int = Shape.layers) -> Row:
    """Processor time of ``layers`` layers: as much more for each as the second took than the first."""
    name = f"{OURS} gptq, {layers} layers: projection from 1 and 2 layers, not run"
    if one.failure or two.failure:
        return Row(name=name, failure="needs 1 and 2 layers")
    first, second = (row.scores.own[PROCESSOR] for row in (one, two))
    own = {
        PROCESSOR: rounded(second + (layers - 2) * (second - first)),
        f"{PROCESSOR} a layer": rounded(second - first),
    }
    return Row(name=name, scores=Scores(own=own))


def _memory(folder: Path, results: Path, cases: Sequence[Case] = CASES) -> int:
    machine, rows = this_machine(), list[Row]()
    command = "python -m benchmarks.llama_shape memory OUT"
    for case in cases:
        rows.append(measure(folder, case))
        print(rows[-1].model_dump_json(exclude_defaults=True), file=sys.stderr, flush=True)
        shown = [*rows, projection(rows[-2], rows[-1])] if case is cases[-1] else rows
        result = make_result(TITLE, DATA, command, tuple(shown), machine)
        write_result(result, results / f"{NAME}.json")  # after each: all of them take long
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
    memory.add_argument("out", type=Path, help="folder for models; needs about 16 GB")
    memory.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    if given.command == "memory":
        return _memory(given.out, given.results)
    print(write(Shape(layers=given.layers), given.out, given.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
