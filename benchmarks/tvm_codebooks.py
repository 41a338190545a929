"""Weights from codebooks, which ONNX Runtime has no kernel for, compiled end to end.

    python -m benchmarks.tvm_codebooks

Accuracy: the repository's language model with the passes ``squeezellm`` and ``aqlm``; its perplexity as the graph says,
computed by ONNX Runtime, and as compiled.  Speed: decoding one token with a Llama of hidden size 2048 and random codes,
against the float32 model on ONNX Runtime, one thread, interleaved, in processor time.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.llama_graph import Shape, write
from benchmarks.program import Place, Question, answer
from benchmarks.random_codebooks import RandomCodebook
from benchmarks.results_file import Row, Scores, Speed, speed_record
from qcompiler.language.decoder import Decoder
from qcompiler.measure.latency import Runner, measure_latency, speed_ratio
from qcompiler.models.catalog import PYDOC_LM

SHAPE = Shape(layers=4, vocabulary=8000)
CONTEXT, TURN = 128, 64
SECONDS = 40.0
KINDS: tuple[Literal["channels", "vectors"], ...] = ("channels", "vectors")
WORDS = {"channels": "16 values a column", "vectors": "256 vectors of 8"}
PASSES = {"channels": "squeezellm", "vectors": "aqlm:books=1"}
TVM = "tvm-cpu:host_only=true"


def measure(place: Place) -> list[Row]:
    """A row for each kind of codebook."""
    speeds = measure_decoding(place.scratch)
    return [
        Row(
            name=WORDS[kind],
            scores=measure_perplexity(kind, place.scratch),
            speed={"decode, 1 thread": speeds[kind]},
        )
        for kind in KINDS
    ]


def measure_perplexity(kind: Literal["channels", "vectors"], scratch: Path) -> Scores:
    """As the graph says, and as compiled."""
    import qcompiler
    from qcompiler.backends.tvm.session import TvmSession

    options = qcompiler.CompileOptions(verify="none")
    made = {
        target: qcompiler.compile(
            PYDOC_LM.onnx,
            PASSES[kind],
            calibration=PYDOC_LM.calibration,
            target=target,
            output=scratch / f"{kind}-{index}",
            options=options,
        )
        for index, target in enumerate(("onnx", TVM))
    }
    session = TvmSession(made[TVM].path, threads=1)
    own = {
        "float perplexity": PYDOC_LM.float_metric,
        "perplexity as written": PYDOC_LM.evaluate(made["onnx"].path),
        "perplexity compiled": PYDOC_LM.score(lambda feeds: np.asarray(session.run(None, feeds)[0])),
    }
    print(WORDS[kind], own, file=sys.stderr, flush=True)
    return Scores(own=own).rounded()


def measure_decoding(scratch: Path) -> dict[str, Speed]:
    """Float32 time / ours, for one more token behind 128."""
    import qcompiler

    model = write(SHAPE, scratch / "llama.onnx")
    paths: dict[str, Path] = {"float": model}
    for kind in KINDS:
        paths[kind] = qcompiler.compile(
            model,
            [RandomCodebook(kind=kind)],
            target=TVM,
            output=scratch / f"llama-{kind}",
            options=qcompiler.CompileOptions(verify="none"),
        ).path
    runners = {name: _decoding(Decoder(path, threads=1)) for name, path in paths.items()}
    times = measure_latency(runners, max_seconds=SECONDS, clock=time.thread_time)
    found: dict[str, Speed] = {
        kind: speed_record(speed_ratio(times["float"], times[kind]), times[kind].median_ms) for kind in KINDS
    }
    print(found, file=sys.stderr, flush=True)
    return found


def _decoding(decoder: Decoder) -> Runner:
    text = decoder.start(CONTEXT + TURN)
    text.extend(np.random.default_rng(0).integers(SHAPE.vocabulary, size=(1, CONTEXT)))
    token = np.ones((1, 1), np.int64)

    def run() -> None:
        if text.length == CONTEXT + TURN:
            text.length = CONTEXT  # what lies behind that in the buffers is written again
        text.extend(token)

    return run


QUESTION = Question(
    name="tvm_codebooks",
    title="Weights from codebooks",
    data="the repository's language model, and a Llama of 4 layers of 2048 with random codes",
    measure=measure,
    needs_assets=False,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
