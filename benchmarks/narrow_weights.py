"""What do weights cost that a file holds in 3 to 6 bits and int8 kernels run, in accuracy and in time to open it?

python -m benchmarks.narrow_weights --assets ../shared/assets

Then the same of 3-bit codes in 3 bits, for products of random weights: the kernel reads them in 4 either way.
"""

from __future__ import annotations

import dataclasses
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from benchmarks import mobilenet, resnet20
from benchmarks.compare import Score, Task, compare, measure_speeds, ours
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler import CompileOptions, compile
from qcompiler.measure.sessions import timing_session
from qcompiler.measure.size import model_size_bytes

PIPELINES = (
    "int8_static,bias_correction",
    *(f"int8_static:weights=int{bits},bias_correction" for bits in (6, 5, 4, 3)),
)
WIDTH, LAYERS = 2048, 8
OPENINGS = 9
OPENS = "opens in ms"
UNVERIFIED = CompileOptions(verify="none")
"""Products of random weights mean nothing: eight of them leave little of the float output."""


def opening_ms(path: Path) -> float:
    """Median processor time that making a session takes."""

    def once() -> float:
        begin = time.process_time()
        timing_session(path, threads=1)
        return 1e3 * (time.process_time() - begin)

    return statistics.median(once() for _ in range(OPENINGS))


def and_opening(score: Score) -> Score:
    """``score``, and how long it takes to open the file."""

    def both(path: Path) -> Scores:
        found = score(path)
        return found.model_copy(update={"own": {**found.own, OPENS: opening_ms(path)}})

    return both


def of_model(title: str, task: Task, scratch: Path) -> list[Row]:
    """Rows of one network, named after it."""
    scratch.mkdir()
    rows = compare(dataclasses.replace(task, score=and_opening(task.score)), ours(*PIPELINES), scratch)
    return [row.model_copy(update={"name": f"{title}: {row.name}"}) for row in rows]


def products() -> ir.Model:
    """``LAYERS`` products of square random weights, one behind the other."""
    rng = np.random.default_rng(0)
    body = "\n".join(f"h{at + 1} = MatMul (h{at}, w{at})" for at in range(LAYERS))
    shape = f"float[N, {WIDTH}]"
    text = f'<ir_version: 10, opset_import: ["" : 21]> net ({shape} h0) => ({shape} h{LAYERS}) {{ {body} }}'
    weights = [rng.standard_normal((WIDTH, WIDTH), np.float32) / WIDTH**0.5 for _ in range(LAYERS)]
    tensors = [ir.tensor(weight, name=f"w{at}") for at, weight in enumerate(weights)]
    return ir.from_onnx_text(text, initializers=tensors)


def of_packing(scratch: Path) -> list[Row]:
    """int3 in 4 bits and in 3, both without the int8 copy for many rows."""
    names = {"int3": "ort-cpu:size_first=true", "int3, packed": "ort-cpu:size_first=true:packed=true"}
    model = products()
    paths: Mapping[str, Path] = {
        name: compile(model, "int3", target=target, output=scratch / name, options=UNVERIFIED).path
        for name, target in names.items()
    }
    row = np.random.default_rng(1).standard_normal((1, WIDTH), np.float32)
    speeds = measure_speeds(paths, {"1 row, against int3 in 4 bits": {"h0": row}})
    return [
        Row(
            name=f"{LAYERS} products of {WIDTH} x {WIDTH}: qcompiler {name}",
            scores=Scores(own={OPENS: opening_ms(path)}).rounded(),
            size_bytes=model_size_bytes(path),
            speed=speeds[name],
        )
        for name, path in paths.items()
    ]


def measure(place: Place) -> list[Row]:
    """Two convolutional networks, then the packing of 3 bits."""
    rows = of_model("MobileNetV1 0.75", mobilenet.task_of(place), place.scratch / "mobilenet")
    rows += of_model("ResNet-20", resnet20.task_of(place), place.scratch / "resnet20")
    return [*rows, *of_packing(place.scratch)]


QUESTION = Question(
    name="narrow_weights",
    title="Weights of 3 to 6 bits in the file",
    data="as for each model; opening in processor time",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
