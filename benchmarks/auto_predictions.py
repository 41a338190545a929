"""How well does a search foretell bytes, milliseconds and loss of mixed models, before it solves any codes?

python -m benchmarks.auto_predictions --assets ../shared/assets

Assignments are random, half node by node and half in blocks of neighbours: worse for sums of single groups than what a
search chooses.  Sizes are compared with the final files; latencies with the deployed model, in processor time of one
thread, beside the float model; losses of models of one choice with the sums of their groups'.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.compare import save_samples
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler.auto.builds import Builds
from qcompiler.auto.candidates import Wanted
from qcompiler.auto.choices import make_problem
from qcompiler.auto.facts import FLOAT, Assignment, Problem
from qcompiler.auto.judge import Judge
from qcompiler.auto.latency import latency_table, measured_ms
from qcompiler.auto.metrics import open_metric
from qcompiler.auto.sensitivity import loss_table
from qcompiler.auto.sizes import build_size_bytes, size_table
from qcompiler.load import load_model
from qcompiler.models.catalog import DIGITS, PYDOC_LM
from qcompiler.pipeline.journal import Journal
from qcompiler.pipeline.parse import parse_target
from qcompiler.prepare import prepare
from qcompiler.request import CompileOptions
from qcompiler.samples import open_samples

MIXED = 6
BLOCKS = 5
Picked = npt.NDArray[np.int64]


def measure(place: Place) -> list[Row]:
    """A row for each model."""
    cases = {
        "digits": (DIGITS.onnx, DIGITS.calibration),
        "pydoc_lm": (PYDOC_LM.onnx, PYDOC_LM.calibration),
        "stories260k": (place.asset("stories260k/stories260k.onnx"), _stories(place)),
        "MobileNetV1": (place.asset("mobilenet_v1/mobilenet_v1_0.75_224.onnx"), _pictures(place)),
    }
    return [Row(name=name, scores=compared(place.scratch / name, *case)) for name, case in cases.items()]


def compared(folder: Path, model: Path, calibration: Path) -> Scores:
    """Predictions against measurements of one model."""
    bench = opened(folder, model, calibration)
    problem = bench.problem
    metric = open_metric(None, bench.reference, bench.samples.held_out)
    judge = Judge.of(bench, metric)
    base, sizes = size_table(problem, bench)
    times, losses = latency_table(problem, bench), loss_table(problem, bench, metric)
    wholes = np.array(
        [
            judge.yardstick.loss(
                bench.target.session(bench.build(problem.uniform(choice.name)).path, threads=1)
            )
            for choice in problem.choices[1:]
        ]
    )
    sums = np.nansum(losses[:, 1:], axis=0)
    rows = np.arange(len(problem.groups))
    nearly, exactly, late = [], [], []
    for picked in assignments(problem):
        assignment = named(problem, picked)
        final = bench.build(assignment)
        exactly.append(build_size_bytes(bench.build(assignment, rounded=True)) - build_size_bytes(final))
        nearly.append((base + sizes[rows, picked].sum()) / build_size_bytes(final) - 1)
        late.append(times.predict(picked) / measured_ms(final.path, bench, times.float_ms) - 1)
    return Scores(
        own={
            "size off, bytes": float(np.abs(exactly).max()),
            "sum of sizes off, % at most": 100 * float(np.abs(nearly).max()),
            "latency off, % median": 100 * float(np.median(np.abs(late))),
            "latency off, % at most": 100 * float(np.abs(late).max()),
            "sum of losses / loss, median": float(np.median(sums / wholes)),
        }
    )


def opened(folder: Path, model: Path, calibration: Path) -> Builds:
    """What a search without bounds looks at."""
    source = load_model(model)
    samples = open_samples(source, str(calibration), CompileOptions())
    prepare(source, opset=CompileOptions().opset)
    names = frozenset(str(node.name) for node in source.graph.all_nodes())
    target = parse_target("ort-cpu").resolved()
    problem = make_problem(source, names, target, Wanted(has_data=True))
    folder.mkdir()
    return Builds(source, problem, target, samples, names, folder, Journal())


def assignments(problem: Problem) -> Sequence[Picked]:
    """Choices of every group, by index; float where one is not allowed."""
    generator = np.random.default_rng(0)
    groups, choices = problem.allowed.shape
    single: list[Picked] = [
        np.asarray(generator.integers(0, choices, size=groups), np.int64) for _ in range(MIXED // 2)
    ]
    blocks = [
        np.repeat(generator.integers(0, choices, BLOCKS), -(-groups // BLOCKS))[:groups] for _ in single
    ]
    found: list[Picked] = []
    for picked in (*single, *blocks):
        allowed = problem.allowed[np.arange(groups), picked]
        found.append(np.where(allowed, picked, problem.choice(FLOAT)).astype(np.int64))
    return found


def named(problem: Problem, picked: Picked) -> Assignment:
    """Names of groups and choices."""
    pairs = zip(problem.groups, picked, strict=True)
    return {group.name: problem.choices[at].name for group, at in pairs if problem.choices[at].name != FLOAT}


def _stories(place: Place) -> Path:
    from benchmarks.stories import calibration_windows

    windows = calibration_windows(place.assets, count=40, length=128)
    return save_samples(place.scratch / "stories.npz", {"input_ids": windows})


def _pictures(place: Place) -> Path:
    from benchmarks.mobilenet import find_pictures, load_pictures

    return save_samples(place.scratch / "pictures.npz", {"input": load_pictures(find_pictures(place)[::10])})


QUESTION = Question(
    name="auto_predictions",
    title="What a search foretells",
    data=f"{MIXED} random mixed models of each, one thread",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
