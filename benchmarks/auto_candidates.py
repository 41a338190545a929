"""Which choices is a search to measure?  Those that win somewhere, by uniform models on data that calibrated none.

python -m benchmarks.auto_candidates [formats | calibrators] --assets ../shared/assets

formats: language models in one format each, solved by gptaq, as exact models: bits a weight, perplexity, and the KL
divergence from float where no sample is padded.  calibrators: int8_static by each calibrator of ranges, with
bias_correction behind it too, deployed: KL or relative error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.auto_case import half
from benchmarks.compare import save_samples
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler.auto.losses.yardstick import Yardstick
from qcompiler.auto.metrics.metric import open_metric
from qcompiler.backends.onnxruntime.session import open_file, session_options
from qcompiler.data import input_specs, open_data
from qcompiler.data.options import DataOptions
from qcompiler.driver import compile as compile_model
from qcompiler.load import load_model
from qcompiler.models.catalog import DIGITS, PYDOC_LM
from qcompiler.prepare import prepare
from qcompiler.request import CompileOptions

EXACT = "onnx"
SYMMETRIC = ":symmetric=true"
FORMATS = (
    "q6_k", "q5_k", "int8:group=128",
    *(f"int4:group={group}{kind}" for group in (16, 32, 64, 128) for kind in ("", SYMMETRIC)),
    *(f"nf4:group={group}:double_quantized=true" for group in (32, 64)), "nf4", "fp4", "mxfp4", "nvfp4", "q4_k",
    "q3_k", *(f"int3:group={group}{kind}" for group in (32, 64, 128) for kind in ("", SYMMETRIC)),
    "q2_k", *(f"int2:group={group}{kind}" for group in (16, 32, 64) for kind in ("", SYMMETRIC)), "ternary:group=64",
)  # fmt: skip
CODEBOOKS = ("squeezellm:bits=4", "squeezellm:bits=3", "aqlm:books=2", "aqlm:books=1")
"""For products alone; compared with formats that leave tables in float too."""
BESIDE = ("int4:group=64", "q3_k", "q2_k", "int2:group=64")
TABLES = "op:Gather"
CORRECTED = ("MobileNetV1", "ResNet-20", "ultraface")
CALIBRATORS = ("minmax", "mse", "percentile", "entropy")
EVERY, SCORED = 10, 64
Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Subject:
    """A model with data.

    Attributes:
        metric: besides the loss that searches add up; "" for none.
        padded: whether samples end at lengths of their own, which that loss does not see.
    """

    name: str
    model: Path
    calibration: Path
    scored: Path
    metric: str = ""
    padded: bool = False


@dataclass
class Scoring:
    """Losses of models of one subject."""

    subject: Subject

    def __post_init__(self) -> None:
        reference = load_model(self.subject.model)
        prepare(reference, opset=CompileOptions().opset)
        data = open_data(str(self.subject.scored), input_specs(reference), DataOptions())
        feeds = [{name: array for name, array in feed.items() if name != "lengths"} for feed in data]
        self.yardstick = Yardstick.of(reference, feeds)
        self.metric = open_metric(self.subject.metric, reference, data) if self.subject.metric else None

    def row(self, name: str, passes: str, target: str, folder: Path, exclude: Sequence[str] = ()) -> Row:
        """Compile and score."""
        started = time.monotonic()
        made = compile_model(
            self.subject.model,
            passes,
            calibration=str(self.subject.calibration),
            target=target,
            exclude=exclude,
            output=folder / "model.qc.onnx",
            options=CompileOptions(verify="none"),
        )
        seconds = time.monotonic() - started
        session = open_file(folder / "model.qc.onnx", session_options(threads=1))
        scores = {}
        if not self.subject.padded:
            kind = "kl" if self.yardstick.kind == "kl" else "relative error"
            scores[kind] = self.yardstick.loss(session)
        if self.metric is not None:
            scores["perplexity"] = self.metric.measure(session)
        if target == EXACT:
            scores["bits a weight"] = made.manifest.bits.quantized
        print(name, scores, f"{seconds:.1f} s", file=sys.stderr, flush=True)
        return Row(name=name, scores=Scores(own=scores).rounded(), seconds=round(seconds, 1))


def measure_formats(place: Place) -> list[Row]:
    """The two small language models, in every format."""
    rows = []
    for subject in _language_models(place):
        scoring = Scoring(subject)
        made: list[tuple[str, tuple[str, ...]]] = [(f"{words}:solver=gptaq", ()) for words in FORMATS]
        if subject.name == "pydoc_lm":
            made += [(words, (TABLES,)) for words in CODEBOOKS]
            made += [(f"{words}:solver=gptaq", (TABLES,)) for words in BESIDE]
        for words, exclude in made:
            name = f"{subject.name} {words}" + (", tables in float" if exclude else "")
            rows.append(scoring.row(name, words, EXACT, place.scratch, exclude))
    return rows


def measure_calibrators(place: Place) -> list[Row]:
    """Every model with fixed ranges."""
    rows = []
    for subject in _of_fixed_ranges(place):
        scoring = Scoring(subject)
        for behind in ("", ",bias_correction") if subject.name in CORRECTED else ("",):
            for calibrator in CALIBRATORS:
                words = f"int8_static:calibrator={calibrator}{behind}"
                rows.append(scoring.row(f"{subject.name} {words}", words, "ort-cpu", place.scratch))
    return rows


def _language_models(place: Place) -> Iterator[Subject]:
    from benchmarks.stories import calibration_windows

    with np.load(PYDOC_LM.heldout) as data:
        ids: Ids = data["input_ids"]
    scored = save_samples(place.scratch / "pydoc.npz", {"input_ids": ids[1::2]})
    yield Subject("pydoc_lm", PYDOC_LM.onnx, PYDOC_LM.calibration, scored, "perplexity")
    with np.load(place.asset("stories260k/eval_ids.npz")) as data:
        ids, lengths = data["input_ids"], data["lengths"]
    windows = calibration_windows(place.assets, count=48, length=128)
    calibration = save_samples(place.scratch / "stories.npz", {"input_ids": windows})
    scored = save_samples(place.scratch / "scored.npz", half(ids, lengths, 1))
    model = place.asset("stories260k/stories260k.onnx")
    yield Subject("stories260k", model, calibration, scored, "perplexity", padded=True)


def _of_fixed_ranges(place: Place) -> Iterator[Subject]:
    from benchmarks import minilm, mobilenet, resnet20, ultraface
    from qcompiler.models import minilm as encoder

    yield Subject("digits", DIGITS.onnx, DIGITS.calibration, DIGITS.heldout)
    for name, task_of in (("MobileNetV1", mobilenet.task_of), ("ResNet-20", resnet20.task_of)):
        task = task_of(place)
        assert task.calibration is not None
        assert task.verification is not None
        yield Subject(name, task.model, task.calibration, task.verification)
    pictures = ultraface.load_pictures(mobilenet.find_pictures(place)[::10])
    known, others = (
        save_samples(place.scratch / f"faces{at}.npz", {"input": pictures[at::2]}) for at in (0, 1)
    )
    yield Subject("ultraface", place.asset("ultraface/version-RFB-320.onnx"), known, others)
    pairs = minilm.read_pairs(place.asset("stsb/stsb-en-dev.csv"))
    model = place.scratch / "minilm.onnx"
    encoder.export(model)
    known, others = (
        save_samples(place.scratch / f"sentences{at}.npz", encoder.tokenize(sentences, 64))
        for at, sentences in enumerate((pairs.first[::EVERY], pairs.first[1::EVERY][:SCORED]))
    )
    yield Subject("MiniLM", model, known, others)


QUESTIONS = {
    "formats": Question(
        name="auto_formats",
        title="Uniform formats of language models, by bits",
        data="calibrated as searches are, scored on every other held-out window",
        measure=measure_formats,
        module="auto_candidates formats",
    ),
    "calibrators": Question(
        name="auto_calibrators",
        title="int8_static by calibrator of ranges",
        data="scored on samples that calibrated nothing",
        measure=measure_calibrators,
        module="auto_candidates calibrators",
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Answer the question that the first word names, or both."""
    chosen = arguments[:1] if arguments and arguments[0] in QUESTIONS else list(QUESTIONS)
    options = arguments[len(chosen) :] if len(chosen) == 1 else arguments
    return max(answer(QUESTIONS[name], options) for name in chosen)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
