"""How fast are whole models as native libraries against ONNX Runtime, from the same passes and calibration data?

    python -m benchmarks.tvm_models [--results FOLDER]

Rows: MiniLM in int8 (needs the extra minilm), the repository's language model in int8 and int4, and four layers of
Llama's shape in int4, one token after 128 and 128 tokens at once.  Both artifacts run in one process, in turn, on one
thread and on two.  One thread is timed by its processor time, because neighbours come and go; two by the clock.  Speed
is the time of the artifact of ort-cpu / that of tvm-cpu; what both lose against float is the SQNR of their outputs.
A row of its own names the kernels that are slower than ONNX Runtime's for the same nodes.  Behind the Llama shape
stands what no kernels on vectors could be faster than here: reading the weights once, and multiplying them by all rows.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.llama_graph import Shape, write
from benchmarks.multiplying import macs, multiplying
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores, speed_record
from benchmarks.roofline import READ_BYTES, reading
from qcompiler.measure.beside import kernels_beside
from qcompiler.measure.latency import LatencyStats, Runner, measure_latency, speed_ratio
from qcompiler.measure.sessions import session_runner, timing_options, timing_session
from qcompiler.measure.size import model_size_bytes
from qcompiler.verify.metrics import Difference

if TYPE_CHECKING:
    import onnxruntime

Array = npt.NDArray[Any]
Feed = Mapping[str, Array]

MAX_SECONDS = 20.0
LENGTH = 128
LAYERS = 4
GROUP = 128
SLOWER_SHOWN = 5
READING, MULTIPLYING = "reading", "multiplying"
TARGETS = {"ort-cpu": "ort-cpu", "tvm-cpu": "tvm-cpu:host_only=true"}
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Case:
    """A model, what is done to it, and what it runs on.

    Attributes:
        feeds: by what the table calls them; all have the same inputs.
        calibration: None for passes that need no data.
        weights: elements of all matrices where what the machine allows is asked for, else 0.
    """

    name: str
    model: Path
    passes: str
    feeds: Mapping[str, Feed]
    calibration: object | None = field(default=None, repr=False)
    weights: int = 0


def measure(place: Place) -> list[Row]:
    """A row for every case."""
    rows = []
    for case in [*repository_cases(), *minilm_cases(place.scratch), *llama_cases(place.scratch)]:
        found = measure_case(case, place.scratch)
        rows += found
        print(found[0].name, found[0].speed, file=sys.stderr, flush=True)
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
    passes = f"int4:group={GROUP}"
    weights = shape.parameters - shape.vocabulary * shape.hidden  # the other table is only looked up
    return [Case(f"Llama shape, {LAYERS} layers, {passes}", path, passes, feeds, weights=weights)]


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


def measure_case(case: Case, scratch: Path) -> list[Row]:
    """Compile for both targets; time and compare them, as wholes and kernel by kernel."""
    paths, seconds = compiled(case, scratch)
    stats = {
        (what, threads): timed(paths, feed, threads, limits=bool(case.weights))
        for threads in (1, 2)
        for what, feed in case.feeds.items()
    }
    speed = {
        f"{what}, {_threads(threads)}": speed_record(
            speed_ratio(found["ort-cpu"], found["tvm-cpu"]), found["tvm-cpu"].median_ms
        )
        for (what, threads), found in stats.items()
    }
    feed = next(iter(case.feeds.values()))
    scores = Scores(
        against_float={f"SQNR dB, {name}": sqnr(case.model, path, feed) for name, path in paths.items()}
    )
    size = model_size_bytes(paths["tvm-cpu"])
    row = Row(
        name=case.name, scores=scores.rounded(), size_bytes=size, speed=speed, seconds=round(seconds, 1)
    )
    rows = [row, slower_row(case, paths)]
    return [*rows, limit_row(case, stats)] if case.weights else rows


def compiled(case: Case, scratch: Path) -> tuple[dict[str, Path], float]:
    """The artifacts by target, and the seconds that the last took."""
    import qcompiler

    paths, started = {}, time.perf_counter()
    for name, target in TARGETS.items():
        folder = scratch / name / "".join(letter if letter.isalnum() else "_" for letter in case.name)
        started = time.perf_counter()
        paths[name] = qcompiler.compile(
            case.model,
            case.passes,
            calibration=case.calibration,
            target=target,
            output=folder,
            options=qcompiler.CompileOptions(verify="none"),
        ).path
    return paths, time.perf_counter() - started


def timed(paths: Mapping[str, Path], feed: Feed, threads: int, *, limits: bool) -> dict[str, LatencyStats]:
    """Of both artifacts, and of what the machine can do at best."""
    runners: dict[str, Runner] = {
        name: session_runner(timing_session(path, threads=threads, options=_options(threads)), [feed])
        for name, path in paths.items()
    }
    if limits:
        runners |= {READING: reading(threads), MULTIPLYING: multiplying(threads)}
    clock = time.thread_time if threads == 1 else time.perf_counter
    return measure_latency(runners, max_seconds=MAX_SECONDS, clock=clock)


def _options(threads: int) -> onnxruntime.SessionOptions:
    """Of ONNX Runtime: several threads look for work within a run, as those of TVM do, and sleep after it."""
    if threads == 1:
        return timing_options()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = threads, 1, 4
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


def slower_row(case: Case, paths: Mapping[str, Path]) -> Row:
    """How many kernels are slower than ONNX Runtime's for the same nodes, on one thread, and the worst of them."""
    own: dict[str, float] = {}
    for what, feed in case.feeds.items():
        found = kernels_beside(paths["ort-cpu"], paths["tvm-cpu"], feed)
        own[f"slower of {len(found.pairs) + 1}, {what}"] = len(found.slower)
        for pair in found.slower[:SLOWER_SHOWN]:
            own[f"{pair.node} ({pair.library_op} for {pair.runtime_op}) loses us, {what}"] = pair.lost_us
    return Row(name=f"{case.name}: kernels slower than ort-cpu's", scores=Scores(own=own).rounded())


def limit_row(case: Case, stats: Mapping[tuple[str, int], Mapping[str, LatencyStats]]) -> Row:
    """What one token must read at least and 128 must multiply, and how fast this machine can."""
    read_bytes = case.weights * (1 / 2 + 4 / GROUP)  # 4 bits, and a float32 scale for each group
    own = {"MB that a token reads": read_bytes / 1e6, f"GMAC of {LENGTH} tokens": case.weights * LENGTH / 1e9}
    for (what, threads), found in stats.items():
        bytes_per_ms = READ_BYTES / found[READING].median_ms
        macs_per_ms = macs(threads) / found[MULTIPLYING].median_ms
        tokens = next(iter(case.feeds[what].values())).shape[1]
        least_ms = max(read_bytes / bytes_per_ms, tokens * case.weights / macs_per_ms)
        at = f"{what}, {_threads(threads)}"
        own |= {
            f"GB/s read, {at}": bytes_per_ms / 1e6,
            f"GMAC/s multiplied, {at}": macs_per_ms / 1e6,
            f"least ms, {at}": least_ms,
            f"speed at most, {at}": found["ort-cpu"].median_ms / least_ms,
            f"reached %, {at}": 100 * least_ms / found["tvm-cpu"].median_ms,
        }
    return Row(name=f"{case.name}: what vectors here allow", scores=Scores(own=own).rounded())


def _threads(count: int) -> str:
    return f"{count} thread{'s' if count > 1 else ''}"


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
