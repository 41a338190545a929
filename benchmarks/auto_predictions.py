"""How well does a search foretell bytes and milliseconds of mixed models, before it solves any codes?

python -m benchmarks.auto_predictions --assets ../shared/assets

Assignments are random, half node by node and half in blocks of neighbours: worse for sums of single groups than what a
search chooses.  Sizes are compared with files whose codes were solved; latencies with the deployed model, in processor
time of one thread, beside the float model.  Timings of other days are not looked at.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.compare import save_samples
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import FLOAT, Assignment, Problem
from qcompiler.auto.latency.deployed import measured_ms
from qcompiler.auto.latency.table import latency_table
from qcompiler.auto.problem.candidates import Wanted
from qcompiler.auto.problem.choices import make_problem
from qcompiler.auto.sizes import build_size_bytes, size_table
from qcompiler.load import load_model
from qcompiler.models.catalog import DIGITS, PYDOC_LM
from qcompiler.pipeline.journal import Journal
from qcompiler.pipeline.parse import parse_target
from qcompiler.prepare import prepare
from qcompiler.request import CompileOptions
from qcompiler.samples import open_samples

MIXED = 10
BLOCKS = 5
Picked = npt.NDArray[np.int64]


def measure(place: Place) -> list[Row]:
    """A row for each model."""
    os.environ["XDG_CACHE_HOME"] = str(place.scratch / "cache")
    cases = {
        "digits": (DIGITS.onnx, DIGITS.calibration),
        "pydoc_lm": (PYDOC_LM.onnx, PYDOC_LM.calibration),
        "stories260k": (place.asset("stories260k/stories260k.onnx"), _stories(place)),
        "MobileNetV1": (place.asset("mobilenet_v1/mobilenet_v1_0.75_224.onnx"), _pictures(place)),
    }
    return [compared(name, place.scratch / name, *case) for name, case in cases.items()]


def compared(name: str, folder: Path, model: Path, calibration: Path) -> Row:
    """Predictions against measurements of one model."""
    started = time.monotonic()
    bench = opened(folder, model, calibration)
    problem = bench.problem
    base, sizes = size_table(problem, bench)
    times = latency_table(problem, bench)
    rows = np.arange(len(problem.groups))
    nearly, exactly, late = [], [], []
    for picked in assignments(problem):
        assignment = named(problem, picked)
        final = bench.build(assignment)
        exactly.append(build_size_bytes(bench.build(assignment, rounded=True)) - build_size_bytes(final))
        nearly.append((base + sizes[rows, picked].sum()) / build_size_bytes(final) - 1)
        late.append(times.predict(picked) / measured_ms(final.path, bench, times.float_ms) - 1)
    off = np.abs(late)
    scores = {
        "size off at most, bytes": float(np.abs(exactly).max()),
        "sums of sizes off at most %": 100 * float(np.abs(nearly).max()),
        "latency off, median %": 100 * float(np.median(off)),
        "latency off at most %": 100 * float(off.max()),
        f"of {len(late)} within 10 % of latency": float((off <= 0.1).sum()),
        "seconds": time.monotonic() - started,
    }
    return Row(name=name, scores=Scores(own=scores).rounded())


def opened(folder: Path, model: Path, calibration: Path) -> Builds:
    """What a search without bounds looks at."""
    source = load_model(model)
    samples = open_samples(source, str(calibration), CompileOptions())
    prepare(source, opset=CompileOptions().opset)
    names = frozenset(str(node.name) for node in source.graph.all_nodes())
    target = parse_target("ort-cpu").resolved()
    problem = make_problem(source, names, target, Wanted(has_data=True))
    folder.mkdir()
    return Builds(source, problem, target, samples, names, folder, Journal(), name="foretold.qc.onnx")


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
