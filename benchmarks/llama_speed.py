"""How fast does a language model decode and prefill, in one deployed file?

python -m benchmarks.llama_speed

Decoding is one token after 128 others, with the cache bound inside the runtime; prefill is 128 tokens at once.  All
models are timed in interleaved rounds, and in the same rounds what the machine could do: how fast it reads memory (a
token cannot be faster than reading every weight once), and how much faster than float32 one product of 128 rows is in
integers (prefill cannot gain more).  One thread is timed by its processor time, which other programs do not lengthen;
several by the wall.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import sys
import time
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
from benchmarks.roofline import FORMS, READ_BYTES, ROWS, K, N, bytes_of_a_step, products, reading
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
ROUNDS = {"decode": 200, "prefill": 25}
SECONDS = 40.0
FLOAT = "float32"
SIZE_FIRST = "ort-cpu:size_first=true"
READING = "reading memory"
PRODUCT = f"one product, {ROWS} rows, {K} x {N}"


@dataclass(frozen=True)
class Ours:
    """A compile of ours."""

    passes: str
    target: str = "ort-cpu"


OURS = {
    "qcompiler int4, groups of 32": Ours("int4"),
    "qcompiler int4, groups of 128": Ours("int4:group=128"),
    "qcompiler int4, groups of 32, size first": Ours("int4", SIZE_FIRST),
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


Stats = Mapping[str, LatencyStats]


def measure(place: Place) -> list[Row]:
    """Make all models, and measure each and the machine."""
    paths = _make(place.scratch)
    memory = {name: _in_fresh_process(_resident, path) for name, path in paths.items()}
    stats = {threads: _time(paths, threads) for threads in THREADS}
    models = [_row(name, path, stats, memory[name]) for name, path in paths.items()]
    return [*models, *_ceiling_rows(stats), _bandwidth_row(stats)]


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

    logging.getLogger().setLevel(logging.WARNING)  # the import turns on everybody's
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
    return write(Shape(layers=1, hidden=16, inner=16, heads=1, kv_heads=1, vocabulary=2, context=8), path)


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS"))


def _in_fresh_process(call: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(call, *given, **named).result()


def _prompt(tokens: int, vocabulary: int = SHAPE.vocabulary) -> Prompt:
    return np.random.default_rng(0).integers(vocabulary, size=(1, tokens))


def _time(paths: Mapping[str, Path], threads: int) -> Mapping[str, Stats]:
    """By phase, then by model or what the machine could do."""
    decoders = {name: Decoder(path, threads=threads) for name, path in paths.items()}
    clock = time.thread_time if threads == 1 else time.perf_counter
    runners = {
        "decode": {name: _decoding(decoder) for name, decoder in decoders.items()},
        "prefill": {name: _prefilling(decoder) for name, decoder in decoders.items()},
    }
    runners["decode"][READING] = reading(threads)
    runners["prefill"] |= {f"{PRODUCT}: {form}": run for form, run in products(threads).items()}
    found = {}
    for phase, calls in runners.items():
        found[phase] = measure_latency(calls, rounds=ROUNDS[phase], max_seconds=SECONDS, clock=clock)
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


def _row(name: str, path: Path, stats: Mapping[int, Mapping[str, Stats]], memory: tuple[int, int]) -> Row:
    own: dict[str, float] = {}
    step_bytes = bytes_of_a_step(path)
    for threads, phases in stats.items():
        at = _at(threads)
        own[f"decode tokens/s, {at}"] = 1e3 / phases["decode"][name].median_ms
        own[f"prefill tokens/s, {at}"] = CONTEXT * 1e3 / phases["prefill"][name].median_ms
        decode = phases["decode"]
        own[f"of reading the weights once, {at} %"] = (
            100 * speed_ratio(decode[READING], decode[name]).median * step_bytes / READ_BYTES
        )
    own |= {
        "MB of weights a token reads": step_bytes / 1e6,
        "MB resident, open": memory[0] / 1e6,
        "MB resident, after generating": memory[1] / 1e6,
    }
    speed = {
        f"{phase}, {threads}t": _against(phases[phase], FLOAT, name)
        for threads, phases in stats.items()
        for phase in ROUNDS
    }
    return Row(name=name, scores=Scores(own=own).rounded(), size_bytes=model_size_bytes(path), speed=speed)


def _against(stats: Stats, baseline: str, name: str) -> Speed:
    return speed_record(speed_ratio(stats[baseline], stats[name]), stats[name].median_ms)


def _ceiling_rows(stats: Mapping[int, Mapping[str, Stats]]) -> list[Row]:
    baseline, *others = (f"{PRODUCT}: {form}" for form in FORMS)
    return [
        Row(
            name=name,
            speed={
                f"prefill, {threads}t": _against(phases["prefill"], baseline, name)
                for threads, phases in stats.items()
            },
        )
        for name in others
    ]


def _bandwidth_row(stats: Mapping[int, Mapping[str, Stats]]) -> Row:
    own = {
        f"GB/s, {_at(threads)}": READ_BYTES / phases["decode"][READING].median_ms / 1e6
        for threads, phases in stats.items()
    }
    return Row(name=READING, scores=Scores(own=own).rounded())


def _at(threads: int) -> str:
    return f"{threads} threads" if threads > 1 else "1 thread"


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
