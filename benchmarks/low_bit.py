"""What do few bits cost a language model, by format, solver and transform?

python -m benchmarks.low_bit stories260k --assets FOLDER

Every pipeline is compiled for the portable target, whose file computes exactly what the format says, and scored by
perplexity.  Some are also compiled for ``ort-cpu``, whose kernels quantize activations.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import stories, tinylm_data
from benchmarks.compare import save_samples
from benchmarks.contender import FAILURE_LENGTH, OURS
from benchmarks.low_bit_peers import CONFIGURATIONS, quantize
from benchmarks.perplexity import perplexity_of, session_of
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler.driver import compile as compile_model
from qcompiler.errors import QCompilerError
from qcompiler.measure.size import model_size_bytes
from qcompiler.models.catalog import PYDOC_LM
from qcompiler.models.export import export_transformers
from qcompiler.request import CompileOptions

MODULE = "low_bit"
EXACT = "onnx"
DEPLOYED = "ort-cpu"

FORMATS = (
    "int8", "q8_0", "q6_k", "q5_k", "int4", "q4_k", "q4_k_m", "nf4", "nf4:double_quantized=true", "fp4", "fp8",
    "mxfp4", "nvfp4", "int3", "q3_k", "int2", "q2_k", "ternary",
)  # fmt: skip
"""Formats, each rounded to nearest."""

SOLVED = ("int4", "int3")
SOLVERS = (
    ":solver=mse", ":solver=hqq", ":solver=k_quant", ":solver=gptq", ":solver=gptq:sequential=false",
    ":solver=gptq:sweeps=0", ":solver=gptq:sweeps=0:sequential=false", ":solver=gptaq", ":solver=gptaq:sweeps=0",
    ":solver=gptaq:static_groups=false",
)  # fmt: skip
OTHERS = (
    "awq,int4", "awq,int4:solver=gptq", "awq,int4:solver=gptaq", "awq,int3", "nf4:solver=gptq",
    "q4_k:solver=k_quant", "q4_k:solver=gptq", "int2:solver=gptaq", "q2_k:solver=gptq",
)  # fmt: skip
BEST = ("int4:solver=gptaq", "int3:solver=gptaq", "int4", "nf4")

Ids = npt.NDArray[np.int64]
Score = Callable[[Path], dict[str, float]]


NO_HEAD = ":lm_head=false"
WINDOWS, WINDOW = 128, 512
TINYLM_WINDOWS, TINYLM_WINDOW = 64, 256


@dataclass(frozen=True)
class Subject:
    """One language model.

    Attributes:
        model: the float model, from ``input_ids`` to ``logits``.
        calibration: .npz of the windows that calibrate, by the words that name them; the first is the usual one.
        score: perplexities of a model file.
        heads: also measure with the product that makes the logits left in float.
        embeddings: whether tables are quantized; peers leave them in float.
    """

    model: Path
    calibration: Mapping[str, Path]
    score: Score
    heads: bool = False
    embeddings: bool = True


def measure(subject: Subject, scratch: Path) -> list[Row]:
    """One row for the float model, each peer, and each pipeline."""
    first, *others = subject.calibration
    rows = [_scored("float", subject, subject.model, {})]
    extras = ("", NO_HEAD) if subject.heads else ("",)
    rows += [_peer(subject, name, first, scratch, extra) for name in CONFIGURATIONS for extra in extras]
    for passes in pipelines():
        rows += [_ours(subject, passes + extra, first, scratch, EXACT) for extra in extras]
    rows += [_ours(subject, passes, first, scratch, DEPLOYED) for passes in BEST]
    rows += [
        _ours(subject, passes, words, scratch, EXACT) for words in others for passes in ("gptq", "awq,int4")
    ]
    return rows


def pipelines() -> list[str]:
    """All ``--passes`` of the table."""
    solved = [f"{name}{solver}" for name in SOLVED for solver in SOLVERS]
    return [*FORMATS, *solved, *OTHERS]


def _ours(subject: Subject, passes: str, words: str, scratch: Path, target: str) -> Row:
    label = f"{OURS} {passes}" + ("" if target == EXACT else f", {target}")
    label += "" if words == next(iter(subject.calibration)) else f", calibrated on {words}"
    output, started = scratch / "ours" / "model.onnx", time.perf_counter()
    given = passes if subject.embeddings else f"{passes}:embeddings=false"
    try:
        result = compile_model(
            subject.model,
            given,
            calibration=subject.calibration[words],
            target=target,
            output=output,
            options=CompileOptions(verify="none"),
        )
    except QCompilerError as error:
        print(f"{label}: {error}", file=sys.stderr, flush=True)
        return Row(name=label, failure=str(error)[:FAILURE_LENGTH])
    bits = {"bits a weight": result.manifest.bits.quantized}
    return _scored(label, subject, output, bits, seconds=time.perf_counter() - started)


def _peer(subject: Subject, name: str, words: str, scratch: Path, extra: str) -> Row:
    output, started = scratch / "peer.onnx", time.perf_counter()
    output.unlink(missing_ok=True)
    quantize(name, subject.model, output, subject.calibration[words], lm_head=not extra)
    return _scored(f"{name}{extra}", subject, output, {}, seconds=time.perf_counter() - started)


def _scored(
    name: str, subject: Subject, path: Path, figures: dict[str, float], *, seconds: float | None = None
) -> Row:
    scores = figures | subject.score(path)
    print(name, {key: round(value, 3) for key, value in scores.items()}, file=sys.stderr, flush=True)
    return Row(
        name=name,
        scores=Scores(own=scores).rounded(),
        size_bytes=model_size_bytes(path),
        seconds=None if seconds is None else round(seconds, 2),
    )


def measure_stories(place: Place) -> list[Row]:
    """The 260-thousand-parameter model, on stories that it was not calibrated on."""
    with np.load(place.asset("stories260k/eval_ids.npz")) as data:
        ids, lengths = data["input_ids"], data["lengths"]
    windows = stories.calibration_windows(place.assets, count=WINDOWS, length=WINDOW)
    subject = Subject(
        model=place.asset("stories260k/stories260k.onnx"),
        calibration={"stories": save_samples(place.scratch / "stories.npz", {"input_ids": windows})},
        score=lambda path: {"perplexity": perplexity_of(path, ids, lengths)},
        heads=True,
        embeddings=False,
    )
    return measure(subject, place.scratch)


def measure_tinylm(place: Place) -> list[Row]:
    """The 14-million-parameter model, on four kinds of text."""
    model = place.scratch / "tinylm" / "model.onnx"
    model.parent.mkdir()
    export_transformers(place.asset("tinylm/hf"), model, inputs=["input_ids"])
    scored = tinylm_data.scored_windows(place.assets)
    calibration = {
        words: save_samples(
            place.scratch / f"{words}.npz",
            {
                "input_ids": tinylm_data.calibration_windows(
                    place.assets, words, count=TINYLM_WINDOWS, length=TINYLM_WINDOW
                )
            },
        )
        for words in ("mixed", *tinylm_data.DOMAINS)
    }
    subject = Subject(
        model=model,
        calibration=calibration,
        score=lambda path: {domain: perplexity_of(path, ids) for domain, ids in scored.items()},
    )
    return measure(subject, place.scratch)


def measure_pydoc_lm(place: Place) -> list[Row]:
    """The language model of the repository."""
    subject = Subject(
        model=PYDOC_LM.onnx,
        calibration={"windows": PYDOC_LM.calibration},
        score=lambda path: {"perplexity": PYDOC_LM.evaluate(session_of(path))},
    )
    return measure(subject, place.scratch)


QUESTIONS = {
    "stories260k": Question(
        name="low_bit_stories260k",
        title="stories260k in few bits",
        data="calibrated on 128 windows of 512 tokens of other stories, scored on 60 stories",
        measure=measure_stories,
        module=f"{MODULE} stories260k",
    ),
    "tinylm": Question(
        name="low_bit_tinylm",
        title="tinylm in few bits",
        data="calibrated on 64 windows of 256 tokens of its training text, scored on 23 windows of each held-out text",
        measure=measure_tinylm,
        module=f"{MODULE} tinylm",
    ),
    "pydoc_lm": Question(
        name="low_bit_pydoc_lm",
        title="pydoc_lm (in the repository) in few bits",
        data="calibrated on 64 windows of 128 bytes, scored on 64 held-out ones",
        measure=measure_pydoc_lm,
        module=f"{MODULE} pydoc_lm",
        needs_assets=False,
    ),
}


def main() -> int:
    """Answer the question that the first word names, with the options behind it."""
    logging.getLogger().setLevel(logging.WARNING)  # the peer's import turns on everybody's
    if len(sys.argv) < 2 or sys.argv[1] not in QUESTIONS:
        print(
            f"usage: python -m benchmarks.{MODULE} {{{','.join(QUESTIONS)}}} --assets FOLDER", file=sys.stderr
        )
        return 2
    return answer(QUESTIONS[sys.argv[1]], sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
