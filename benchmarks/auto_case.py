"""One model on which a search is compared with uniform assignments."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import qcompiler
from benchmarks.results_file import Row, Scores, Speed
from qcompiler.auto.judge import size_of
from qcompiler.auto.metrics.metric import Metric, open_metric
from qcompiler.backends.base import Session
from qcompiler.data import input_specs, open_data
from qcompiler.data.options import DataOptions
from qcompiler.load import load_model
from qcompiler.measure.latency import LatencyStats, measure_latency, speed_ratio
from qcompiler.measure.sessions import session_runner, timing_session
from qcompiler.prepare import prepare

Array = npt.NDArray[np.generic]
SESSIONS, ROUNDS, SECONDS = 6, 41, 24.0
"""Sessions of each model of a table, as memory of one may lie well (2 to 4 %); and what all sessions take in turns."""

_PROGRAM = "from qcompiler.cli import main; main()"


@dataclass(frozen=True)
class Case:
    """A model and its data.

    Attributes:
        title: of its rows.
        model: float.
        calibration: for searches and compiles.
        judged: what a search measures its metric on.
        scored: what models are scored on here.
        metric: as ``--metric`` takes it, for searches that name none.
        scratch: for models.
        options: of every compile.
        target: of every compile; "" for the usual one.
        also: metrics that models are scored by too.
    """

    title: str
    model: Path
    calibration: Path
    judged: Path
    scored: Path
    metric: str
    scratch: Path
    options: tuple[str, ...] = ()
    target: str = ""
    also: tuple[str, ...] = ()


def half(ids: Array, lengths: Array, parity: int) -> dict[str, Array]:
    """Every other row of token ids."""
    return {"input_ids": ids[parity::2], "lengths": lengths[parity::2]}


def answered(
    case: Case, searches: Sequence[tuple[str, ...]], uniform: Sequence[str], by_hand: Sequence[int] = ()
) -> list[Row]:
    """Rows of the float model, of every search, and of uniform models, all scored and timed alike.

    Args:
        case: the model.
        searches: options of each search.
        uniform: words of ``--passes``.
        by_hand: how many of the worst nodes of the first uniform model a user would leave in float by ``--exclude``.
    """
    scoring = Scoring.of(case)
    made = [_searched(case, options, f"auto_{at}") for at, options in enumerate(searches)]
    made += [_compiled(case, words, f"uniform_{at}") for at, words in enumerate(uniform)]
    for count, names in excluded(case, uniform[0], by_hand):
        flags = [word for name in names for word in ("--exclude", name)]
        title = f"{uniform[0]}, {count} worst nodes excluded"
        made.append(_compiled(case, uniform[0], f"excluded_{count}", flags, title))
    speeds = scoring.speeds([each.path for each in made])
    rows = [_row(each, scoring, speed) for each, speed in zip(made, speeds, strict=True)]
    return [Row(name="float", scores=Scores(own=scoring.score(case.model))), *rows]


@dataclass(frozen=True)
class Made:
    """A model that is to be scored.

    Attributes:
        name: of its row.
        path: of the model.
        more: figures beside its score.
        seconds: that making it took.
        peak_bytes: the most memory that making it held.
    """

    name: str
    path: Path
    more: Mapping[str, float]
    seconds: float
    peak_bytes: int


@dataclass
class Scoring:
    """Scores and times models on data that no search has seen."""

    case: Case
    metrics: Mapping[str, Metric]
    feed: Mapping[str, Array]

    @classmethod
    def of(cls, case: Case) -> Scoring:
        """Open the data."""
        model = load_model(case.model)
        prepare(model, opset=21)
        feeds = open_data(str(case.scored), input_specs(model), DataOptions())
        metrics = {name: open_metric(name, model, feeds) for name in (case.metric, *case.also)}
        return cls(case, metrics, next(iter(feeds)))

    def score(self, path: Path) -> dict[str, float]:
        """Every metric of one model."""
        from qcompiler.backends.onnxruntime.session import open_file, session_options

        session: Session = open_file(path, session_options(threads=1))
        return {name: metric.measure(session) for name, metric in self.metrics.items()}

    def speeds(self, paths: Sequence[Path]) -> list[Speed]:
        """All of them and the float model in turns, so that models which differ by a per cent are told apart.

        Whoever comes behind the float model finds little of its own in the caches (2 % of a model of 2 ms), so that
        every session has another order.
        """
        models = [self.case.model, *paths]
        times: dict[str, tuple[float, ...]] = {}
        for turn in range(SESSIONS):
            order = np.random.default_rng(turn).permutation(len(models))
            sessions = {str(at): timing_session(models[at], threads=1) for at in order}
            runners = {at: session_runner(session, [self.feed]) for at, session in sessions.items()}
            part = measure_latency(runners, rounds=ROUNDS, max_seconds=SECONDS, clock=time.thread_time)
            times = {name: times.get(name, ()) + each.rounds_ms for name, each in part.items()}
        found = {name: LatencyStats(each, part[name].calls_per_round) for name, each in times.items()}
        ratios = [speed_ratio(found["0"], found[str(at)]) for at in range(1, len(models))]
        return [
            Speed(
                median=ratio.median,
                low=ratio.low,
                high=ratio.high,
                latency_ms=found[str(at)].median_ms,
            )
            for at, ratio in enumerate(ratios, start=1)
        ]


def _searched(case: Case, options: Sequence[str], folder: str) -> Made:
    output = case.scratch / folder / "model.qc.onnx"
    metric = () if "--metric" in options else ("--metric", case.metric)
    words = ["--passes", "auto", *metric, "--metric-data", str(case.judged), *options]
    facts, seconds, peak = _run(case, words, output)
    predicted, measured = facts["predicted"], facts["measured"]
    latency = predicted["latency_ms"] / max(measured["latency_ms"], 1e-9)
    off = {
        "bits a weight": facts["bits"],
        "bytes predicted less measured": predicted["size_bytes"] - measured["size_bytes"],
        "latency predicted / measured": latency,
    }
    return Made(f"auto {shlex.join(options)}", output, off, seconds, peak)


def _compiled(case: Case, words: str, folder: str, flags: Sequence[str] = (), name: str = "") -> Made:
    output = case.scratch / folder / "model.qc.onnx"
    facts, seconds, peak = _run(case, ["--passes", words, *flags, "--verify", "numerics"], output)
    bits = facts["bits"]["quantized"] if "bits" in facts else _bits(output)
    return Made(name or words, output, {"bits a weight": bits} if bits else {}, seconds, peak)


def _row(made: Made, scoring: Scoring, speed: Speed) -> Row:
    return Row(
        name=made.name,
        scores=Scores(own={**scoring.score(made.path), **made.more}),
        size_bytes=size_of(made.path),
        speed={"1 sample": speed},
        seconds=round(made.seconds, 1),
        peak_bytes=made.peak_bytes,
    )


def _bits(path: Path) -> float:
    manifest = json.loads(path.with_suffix(".manifest.json").read_text("utf-8"))
    return float(manifest["bits"]["quantized"])


def _run(case: Case, words: Sequence[str], output: Path) -> tuple[dict[str, Any], float, int]:
    """Facts of a ``qcompile``, its seconds, and the most memory it held."""
    command = [sys.executable, "-c", _PROGRAM, str(case.model), *words, "--json"]
    command += ["--calib", str(case.calibration), "-o", str(output), *case.options]
    command += ["--target", case.target] if case.target else []
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise qcompiler.QCompilerError(
            f"{shlex.join(command)} ended with {os.waitstatus_to_exitcode(status)}"
        )
    facts: dict[str, Any] = json.loads(out)
    return facts, time.monotonic() - started, usage.ru_maxrss * 1024


def excluded(case: Case, words: str, counts: Sequence[int]) -> Iterator[tuple[int, list[str]]]:
    """The worst nodes by what the report of a uniform model says of them, as a user would leave them out."""
    if not counts:
        return
    result = qcompiler.compile(
        case.model, words, calibration=str(case.calibration), output=case.scratch / "worst" / "model.qc.onnx"
    )
    assert result.verification is not None
    worst = [item.node for item in result.verification.quantization.worst(4 * max(counts)) if item.node]
    quantized = {item.node for report in result.passes for item in report.nodes if item.action == "quantized"}
    ordered = [name for name in dict.fromkeys(worst) if name in quantized]
    for count in counts:
        yield count, ordered[:count]
