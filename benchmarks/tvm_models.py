"""How fast are whole models as native libraries against ONNX Runtime, from the same passes and calibration data?

    python -m benchmarks.tvm_models [--results FOLDER]

Rows: MiniLM in int8 (needs the extra minilm), the repository's language model in int8 and int4, and four layers of
Llama's shape in int4, one token after 128 and 128 tokens at once.  Both artifacts run in one process, in turn, on one
thread and on two.  One thread is timed by its processor time, because neighbours come and go; two by the clock.  Speed
is the time of the artifact of ort-cpu / that of tvm-cpu; what both lose against float is the SQNR of their outputs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.llama_graph import Shape, write
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores, Speed, speed_record
from qcompiler.measure.latency import measure_latency, speed_ratio
from qcompiler.measure.sessions import session_runner, timing_session
from qcompiler.measure.size import model_size_bytes
from qcompiler.verify.metrics import Difference

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]

MAX_SECONDS = 20.0
LENGTH = 128
LAYERS = 4
TARGETS = {"ort-cpu": "ort-cpu", "tvm-cpu": "tvm-cpu:host_only=true"}
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """A model, what is done to it, and what it runs on.

    Attributes:
        feeds: by what the table calls them; all have the same inputs.
        calibration: None for passes that need no data.
    """

    name: str
    model: Path
    passes: str
    feeds: Mapping[str, Feed]
    calibration: object | None = field(default=None, repr=False)


def measure(place: Place) -> list[Row]:
    """A row for every case."""
    rows = []
    for case in [*repository_cases(), *minilm_cases(place.scratch), *llama_cases(place.scratch)]:
        rows.append(measure_case(case, place.scratch))
        print(rows[-1].name, rows[-1].speed, file=sys.stderr, flush=True)
    return rows


def repository_cases() -> list[Case]:
    """The language model that lies in the repository."""
    folder = ROOT / "models" / "pydoc_lm"
    ids = np.load(folder / "calib.npz")["input_ids"]
    feeds = {f"1 x {LENGTH}": {"input_ids": np.ascontiguousarray(ids[:1, :LENGTH])}}
    data = str(folder / "calib.npz")
    return [
        Case(f"pydoc_lm {passes}", folder / "pydoc_lm.onnx", passes, feeds, data)
        for passes in ("int8_dynamic", "int8_static", "int4")
    ]


def minilm_cases(scratch: Path) -> list[Case]:
    """The encoder of the benchmarks."""
    from qcompiler.models import minilm

    path = scratch / "minilm.onnx"
    minilm.export(path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    sentences = [line for line in text.splitlines() if len(line) > 60][:16]
    feeds = {f"1 x {LENGTH}": minilm.tokenize([" ".join(sentences)], LENGTH)}
    rows = minilm.tokenize(sentences, 64)
    calibration = [{name: array[i : i + 1] for name, array in rows.items()} for i in range(len(sentences))]
    return [Case("MiniLM smoothquant,int8_dynamic", path, "smoothquant,int8_dynamic", feeds, calibration)]


def llama_cases(scratch: Path) -> list[Case]:
    """Hidden size 2048, groups of eight queries to a head of keys."""
    shape = Shape(layers=LAYERS)
    path = write(shape, scratch / "llama" / "model.onnx")
    feeds = {"1 token": cached(shape, 1, LENGTH), f"{LENGTH} tokens": cached(shape, LENGTH, 0)}
    return [Case(f"Llama shape, {LAYERS} layers, int4:group=128", path, "int4:group=128", feeds)]


def cached(shape: Shape, tokens: int, past: int) -> Feed:
    """Random tokens behind a random cache."""
    generator = np.random.default_rng(0)
    size = (1, shape.kv_heads, past, shape.head_size)
    cache = {
        f"past_key_values.{layer}.{part}": generator.standard_normal(size, np.float32)
        for layer in range(shape.layers)
        for part in ("key", "value")
    }
    ids = generator.integers(0, shape.vocabulary, (1, tokens))
    return {"input_ids": ids, "attention_mask": np.ones((1, past + tokens), np.int64), **cache}


def measure_case(case: Case, scratch: Path) -> Row:
    """Compile for both targets; time and compare them."""
    import qcompiler

    paths, started = {}, time.perf_counter()
    for name, target in TARGETS.items():
        folder = scratch / name / "".join(letter if letter.isalnum() else "_" for letter in case.name)
        options = qcompiler.CompileOptions(verify="none")
        started = time.perf_counter()
        paths[name] = qcompiler.compile(
            case.model,
            case.passes,
            calibration=case.calibration,
            target=target,
            output=folder,
            options=options,
        ).path
    seconds = time.perf_counter() - started
    speed: dict[str, Speed] = {}
    for threads in (1, 2):
        for what, feed in case.feeds.items():
            unit = "thread" if threads == 1 else "threads"
            speed[f"{what}, {threads} {unit}"] = compared(paths, feed, threads)
    feed = next(iter(case.feeds.values()))
    scores = Scores(
        against_float={f"SQNR dB, {name}": sqnr(case.model, path, feed) for name, path in paths.items()}
    )
    size = model_size_bytes(paths["tvm-cpu"])
    return Row(
        name=case.name, scores=scores.rounded(), size_bytes=size, speed=speed, seconds=round(seconds, 1)
    )


def compared(paths: Mapping[str, Path], feed: Feed, threads: int) -> Speed:
    """ONNX Runtime's time over ours."""
    sessions = {name: timing_session(path, threads=threads) for name, path in paths.items()}
    runners = {name: session_runner(session, [feed]) for name, session in sessions.items()}
    clock = time.process_time if threads == 1 else time.perf_counter
    times = measure_latency(runners, max_seconds=MAX_SECONDS, clock=clock)
    ratio = speed_ratio(times["ort-cpu"], times["tvm-cpu"])
    return speed_record(ratio, times["tvm-cpu"].median_ms)


def sqnr(reference: Path, path: Path, feed: Feed) -> float:
    """Of the first output, against the float model."""
    expected, found = (timing_session(model).run(None, dict(feed))[0] for model in (reference, path))
    difference = Difference()
    difference.update(expected, found)
    return difference.sqnr_db


QUESTION = Question(
    name="tvm_models",
    title="Whole models as native libraries",
    data="calib.npz of pydoc_lm; lines of the README; random weights and tokens",
    measure=measure,
    needs_assets=False,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
