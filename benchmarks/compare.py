"""One comparison: compile with every contender, score what each made, and time all of them together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.contender import FAILURE_LENGTH, OURS, Contender, Cost, Job, run_job
from benchmarks.results_file import Row, Scores, Speed, speed_record
from qcompiler.errors import ModelError
from qcompiler.measure.latency import Runner, measure_latency, speed_ratio
from qcompiler.measure.sessions import Feed, run_checked, session_runner, timing_session
from qcompiler.measure.size import model_size_bytes

FLOAT = "float"
ROUNDS = 25
MAX_SECONDS = 30.0
SMALLEST_ROUND_MS = 20.0

Score = Callable[[Path], Scores]
"""Figures of a model file."""


@dataclass(frozen=True)
class Task:
    """What all contenders are given.

    Attributes:
        model: the float model.
        calibration: .npz of samples, one array per input; None where nothing calibrates.
        verification: .npz of other samples, which our compiler verifies on.
        score: of a model file.
        timings: a feed by the words that describe its shape.
    """

    model: Path
    score: Score
    timings: Mapping[str, Feed]
    calibration: Path | None = None
    verification: Path | None = None


def compare(task: Task, contenders: Sequence[Contender], scratch: Path) -> list[Row]:
    """Return a row for the float model and one for each contender, also for those that failed."""
    costs = {contender.name: _compile(task, contender, scratch) for contender in contenders}
    paths = {FLOAT: task.model} | {
        contender.name: _output(contender, scratch)
        for contender in contenders
        if not costs[contender.name].failure
    }
    scores = {name: task.score(path) for name, path in paths.items()}
    speeds = measure_speeds(paths, task.timings)
    return [
        _row(name, costs.get(name), paths.get(name), scores, speeds)
        for name in (FLOAT, *(contender.name for contender in contenders))
    ]


def measure_speeds(
    paths: Mapping[str, Path], timings: Mapping[str, Feed], *, threads: int = 1
) -> dict[str, dict[str, Speed]]:
    """Time all models in interleaved rounds; return ratios to the first by model and shape."""
    found: dict[str, dict[str, Speed]] = {name: {} for name in paths}
    for shape, feed in timings.items():
        runners = {name: _runner(path, feed, threads) for name, path in paths.items()}
        stats = measure_latency(
            runners, rounds=ROUNDS, min_round_ms=SMALLEST_ROUND_MS, max_seconds=MAX_SECONDS
        )
        first = next(iter(stats.values()))
        for name, one in stats.items():
            found[name][shape] = speed_record(speed_ratio(first, one), one.median_ms)
    return found


def _runner(path: Path, feed: Feed, threads: int) -> Runner:
    session = timing_session(path, threads=threads)
    run_checked(session, [feed], model=str(path))
    return session_runner(session, [feed])


def _output(contender: Contender, scratch: Path) -> Path:
    slug = "".join(letter if letter.isalnum() else "_" for letter in contender.name)
    return scratch / f"{slug}.onnx"


def _compile(task: Task, contender: Contender, scratch: Path) -> Cost:
    job = Job(
        contender=contender,
        model=task.model.resolve(),
        output=_output(contender, scratch),
        calibration=task.calibration,
        verification=task.verification,
    )
    cost = run_job(job)
    if not cost.failure:
        cost = cost.model_copy(update={"failure": _why_it_does_not_load(job.output)})
    print(f"{contender.name}: {cost.failure or f'{cost.seconds:.1f} s'}", file=sys.stderr, flush=True)
    return cost


def _why_it_does_not_load(path: Path) -> str:
    try:
        timing_session(path)
    except ModelError as error:
        reason = str(error).partition(" failed:")[2] or str(
            error
        )  # without the path, which no two runs share
        return f"ONNX Runtime cannot load the result: {reason}"[:FAILURE_LENGTH]
    return ""


def _row(
    name: str,
    cost: Cost | None,
    path: Path | None,
    scores: Mapping[str, Scores],
    speeds: Mapping[str, Mapping[str, Speed]],
) -> Row:
    if path is None:
        return Row(name=name, failure=cost.failure if cost else "")
    found = scores[name] if cost else Scores(own=scores[name].own)
    return Row(
        name=name,
        scores=found.rounded(),
        size_bytes=model_size_bytes(path),
        speed=dict(speeds[name]),
        seconds=None if cost is None else cost.seconds,
        peak_bytes=None if cost is None else cost.peak_bytes,
    )


def ours(*pipelines: str, batch: int = 1) -> list[Contender]:
    """Our compiler with each of these ``--passes``."""
    return [Contender(tool=OURS, passes=passes, batch=batch) for passes in pipelines]


def peers(*names: str) -> list[Contender]:
    """Peers by their names in ``benchmarks.peers.PEERS``."""
    return [Contender(tool=name) for name in names]


def save_samples(path: Path, samples: Feed) -> Path:
    """Write samples as a .npz, one array per model input, axis 0 is samples."""
    arrays: dict[str, npt.NDArray[np.generic]] = dict(samples)
    np.savez(path, allow_pickle=False, **arrays)
    return path
