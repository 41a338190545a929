"""How fast does a language model decode and prefill, in one deployed file?

python -m benchmarks.llama_speed

Decoding is one token after 128 others, with the cache bound inside the runtime; prefill is 128 tokens at once.  All
models are timed in interleaved rounds.  Rows behind the models say what the machine could do: how fast it reads
memory (a token cannot be faster than reading every weight once), and how much faster than float32 one product of 128
rows is in integers (prefill cannot gain more).
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

import numpy as np
import onnx

from benchmarks.llama_graph import Shape, write
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores, Speed, speed_record
from benchmarks.roofline import bytes_of_a_step, product_speeds, read_gb_per_second
from qcompiler.driver import compile as compile_model
from qcompiler.language.decoder import Decoder
from qcompiler.measure.latency import LatencyStats, Runner, measure_latency, speed_ratio
from qcompiler.measure.size import model_size_bytes
from qcompiler.request import CompileOptions

P = ParamSpec("P")
T = TypeVar("T")

SHAPE = Shape(layers=4)
CONTEXT, TURN = 128, 64
"""Tokens before the first that is timed, and how many follow before the text goes back to that length."""

GENERATED = 16
"""Tokens generated before resident memory is read the second time."""

THREADS = (1, 2)
ROUNDS = 25
SECONDS = 40.0
FLOAT = "float32"
SIZE_FIRST = "ort-cpu:size_first=true"
CEILINGS = ("int8 columns, per tensor", "int8 columns, per token")


@dataclass(frozen=True)
class Ours:
    """A compile of ours."""

    passes: str
    target: str = "ort-cpu"


OURS = {
    "qcompiler int4, groups of 32": Ours("int4"),
    "qcompiler int4, groups of 128": Ours("int4:group=128"),
    "qcompiler int4, groups of 32, size first": Ours("int4", SIZE_FIRST),
    "qcompiler int4, groups of 128, size first": Ours("int4:group=128", SIZE_FIRST),
    "qcompiler int8": Ours("int8"),
    "qcompiler int8_dynamic": Ours("int8_dynamic"),
}
PEERS = {
    "MatMulNBitsQuantizer, 32": (32, 0),
    "MatMulNBitsQuantizer, 32, accuracy_level=4": (32, 4),
    "MatMulNBitsQuantizer, 128, accuracy_level=4": (128, 4),
}
"""Group and accuracy level of ONNX Runtime's own quantizer (4 bits, asymmetric, every MatMul)."""

Prompt = np.ndarray[tuple[int, int], np.dtype[np.int64]]


def measure(place: Place) -> list[Row]:
    """Make all models, and measure each and the machine."""
    paths = _make(place.scratch)
    memory = {name: _in_fresh_process(_resident, path) for name, path in paths.items()}
    bandwidth = {threads: read_gb_per_second(threads) for threads in THREADS}
    stats = {threads: _time(paths, threads) for threads in THREADS}
    ceilings = {
        threads: product_speeds(CEILINGS, threads=threads, seconds=SECONDS / 2) for threads in THREADS
    }
    bandwidth = {threads: max(read_gb_per_second(threads), first) for threads, first in bandwidth.items()}
    models = [
        _row(name, path, {threads: _of(name, stats[threads]) for threads in THREADS}, memory[name], bandwidth)
        for name, path in paths.items()
    ]
    return [*models, *_ceiling_rows(ceilings), _bandwidth_row(bandwidth)]


def _make(folder: Path) -> dict[str, Path]:
    paths = {FLOAT: write(SHAPE, folder / "model.onnx")}
    for index, (name, ours) in enumerate(OURS.items()):
        made = compile_model(
            paths[FLOAT],
            ours.passes,
            target=ours.target,
            output=folder / f"ours{index}",
            options=CompileOptions(verify="none"),
        )
        paths[name] = made.path
        _say(name)
    for index, (name, (group, level)) in enumerate(PEERS.items()):
        paths[name] = folder / f"peer{index}.onnx"
        _in_fresh_process(_quantize_by_peer, paths[FLOAT], paths[name], group, level)
        _say(name)
    return paths


def _quantize_by_peer(model: Path, output: Path, group: int, level: int) -> None:
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    proto = onnx.load(model)
    quantizer = MatMulNBitsQuantizer(
        proto, bits=4, block_size=group, is_symmetric=False, accuracy_level=level
    )
    quantizer.process()
    onnx.save(quantizer.model.model, output, save_as_external_data=True, location=f"{output.name}.data")


def _resident(path: Path) -> tuple[int, int]:
    """Bytes that opening a model adds to this process, and opening and generating."""
    Decoder(_tiny(path.parent), threads=1).start(2).extend(_prompt(2, 2))
    before = _resident_bytes()
    decoder = Decoder(path, threads=1)
    opened = _resident_bytes()
    text = decoder.start(CONTEXT + GENERATED)
    logits = text.extend(_prompt(CONTEXT))
    for _ in range(GENERATED):
        logits = text.extend(logits.argmax(-1, keepdims=True))
    return opened - before, _resident_bytes() - before


def _tiny(folder: Path) -> Path:
    """A model of a few kilobytes that makes a process load what every model needs."""
    path = folder / f"tiny-{os.getpid()}.onnx"
    return write(Shape(layers=1, hidden=8, inner=16, heads=1, kv_heads=1, vocabulary=2, context=8), path)


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


def _in_fresh_process(call: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *given, **named).result()


def _prompt(tokens: int, vocabulary: int = SHAPE.vocabulary) -> Prompt:
    return np.random.default_rng(0).integers(vocabulary, size=(1, tokens))


def _time(paths: Mapping[str, Path], threads: int) -> dict[str, dict[str, LatencyStats]]:
    """By phase, then by model."""
    decoders = {name: Decoder(path, threads=threads) for name, path in paths.items()}
    phases: dict[str, Callable[[Decoder], Runner]] = {"decode": _decoding, "prefill": _prefilling}
    found = {}
    for phase, runner in phases.items():
        runners = {name: runner(decoder) for name, decoder in decoders.items()}
        found[phase] = measure_latency(runners, rounds=ROUNDS, max_seconds=SECONDS)
        _say(f"{phase}, {threads} threads")
    return found


def _decoding(decoder: Decoder) -> Runner:
    text = decoder.start(CONTEXT + TURN)
    text.extend(_prompt(CONTEXT))
    token = _prompt(1)
    if decoder.cache != "in place":
        raise AssertionError(f"{decoder.model} has no cache that can be taken back")

    def run() -> None:
        if text.length == CONTEXT + TURN:
            text.length = CONTEXT  # what lies behind that in the buffers is written again
        text.extend(token)

    return run


def _prefilling(decoder: Decoder) -> Runner:
    prompt = _prompt(CONTEXT)
    return lambda: decoder.start(CONTEXT).extend(prompt)


def _of(name: str, stats: Mapping[str, Mapping[str, LatencyStats]]) -> dict[str, Speed]:
    return {
        phase: speed_record(speed_ratio(models[FLOAT], models[name]), models[name].median_ms)
        for phase, models in stats.items()
    }


def _row(
    name: str,
    path: Path,
    speeds: Mapping[int, Mapping[str, Speed]],
    memory: tuple[int, int],
    bandwidth: Mapping[int, float],
) -> Row:
    own: dict[str, float] = {}
    step_bytes = bytes_of_a_step(path)
    for threads, phases in speeds.items():
        at = f"{threads} threads" if threads > 1 else "1 thread"
        own[f"decode tokens/s, {at}"] = 1e3 / phases["decode"].latency_ms
        own[f"prefill tokens/s, {at}"] = CONTEXT * 1e3 / phases["prefill"].latency_ms
        reading_ms = step_bytes / bandwidth[threads] / 1e6
        own[f"of reading the weights once, {at} %"] = 100 * reading_ms / phases["decode"].latency_ms
    own |= {
        "MB of weights a token reads": step_bytes / 1e6,
        "MB resident, open": memory[0] / 1e6,
        "MB resident, after generating": memory[1] / 1e6,
    }
    return Row(
        name=name,
        scores=Scores(own=own).rounded(),
        size_bytes=model_size_bytes(path),
        speed={
            f"{phase}, {threads}t": speed
            for threads, phases in speeds.items()
            for phase, speed in phases.items()
        },
    )


def _ceiling_rows(ceilings: Mapping[int, Mapping[str, Speed]]) -> list[Row]:
    return [
        Row(
            name=f"one product, 128 rows, 2048 x 5632: {form}",
            speed={f"prefill, {threads}t": speeds[form] for threads, speeds in ceilings.items()},
        )
        for form in CEILINGS
    ]


def _bandwidth_row(bandwidth: Mapping[int, float]) -> Row:
    own = {f"GB/s read, {threads} threads": figure for threads, figure in bandwidth.items()}
    return Row(name="memory", scores=Scores(own=own).rounded())


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


QUESTION = Question(
    name="llama_speed",
    title="Llama of 4 layers (hidden 2048, FFN 5632)",
    data="random weights; one token after 128, and 128 tokens at once",
    measure=measure,
    needs_assets=False,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
