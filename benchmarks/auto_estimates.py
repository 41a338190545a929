"""What does a search lose that estimates instead of measuring, and what does it take for a billion parameters?

    python -m benchmarks.auto_estimates pydoc_lm
    python -m benchmarks.auto_estimates stories260k | tinylm --assets ../shared/assets
    python -m benchmarks.auto_estimates shape --assets OUT

The first three search one model with ``--no-estimate`` and with ``--estimate``, beside two uniform models, all scored
on data that no search has seen; tinylm measures once, since that takes long.  ``shape`` searches models of Llama's
shape (:mod:`benchmarks.llama_shape`, written into OUT where they are not there yet) of 2 and 3 layers, and projects the
processor time of 22: as much more for each as the third took.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.auto_case import Case as AutoCase
from benchmarks.auto_case import Scoring, half
from benchmarks.compare import save_samples
from benchmarks.llama_graph import Shape
from benchmarks.llama_shape import PROCESSOR, VERIFIED, model_of, save_windows
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores, rounded
from qcompiler.auto.judge import size_of
from qcompiler.errors import QCompilerError
from qcompiler.models.catalog import PYDOC_LM

BITS = (3.0, 3.5, 4.0)
UNIFORM = ("int3:group=128:symmetric=true:solver=gptaq", "int3:group=64:symmetric=true:solver=gptaq")
"""Of 3.1 and 3.3 bits: what a user would take within 3.5."""
LAYERS = (2, 3)
Ids = npt.NDArray[np.int64]
_PROGRAM = "from qcompiler.cli import main; main()"


@dataclass(frozen=True)
class Cost:
    """What a ``qcompile`` took.

    Attributes:
        facts: as ``--json`` gives them.
        seconds: by the wall.
        processor_seconds: of all its threads.
        peak_bytes: resident.
    """

    facts: Mapping[str, object]
    seconds: float
    processor_seconds: float
    peak_bytes: int


def run(model: Path, words: Sequence[str], output: Path) -> Cost:
    """Run one in a process of its own.

    Raises:
        QCompilerError: it failed.
    """
    command = [sys.executable, "-c", _PROGRAM, str(model), *words, "-o", str(output), "--json"]
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise QCompilerError(f"{shlex.join(command)} ended with {process.returncode}")
    processor = usage.ru_utime + usage.ru_stime
    return Cost(json.loads(out), time.monotonic() - started, processor, usage.ru_maxrss * 1024)


def compared(case: AutoCase, measured: Sequence[float], estimated: Sequence[float]) -> list[Row]:
    """Searches that measure and that estimate, by bits a weight, and uniform models."""
    scoring = Scoring.of(case)
    rows = [Row(name="float", scores=Scores(own=scoring.score(case.model)))]
    search = ["--passes", "auto", "--metric", case.metric, "--metric-data", str(case.judged)]
    wanted = [
        (f"auto --bits {bits:g} {way}", [*search, "--bits", f"{bits:g}", way])
        for way, asked in (("--no-estimate", measured), ("--estimate", estimated))
        for bits in asked
    ]
    wanted += [(words, ["--passes", words, "--verify", "numerics"]) for words in UNIFORM]
    given = ["--calib", str(case.calibration), "--target", case.target, *case.options]
    for name, words in wanted:
        output = case.scratch / "made" / "model.qc.onnx"
        cost = run(case.model, [*words, *given], output)
        bits = cost.facts["bits"]
        shown = float(bits) if isinstance(bits, int | float) else _quantized(output)
        own = {**scoring.score(output), "bits a weight": shown, PROCESSOR: rounded(cost.processor_seconds)}
        rows.append(_row(name, cost, own, output))
    return rows


def _quantized(output: Path) -> float:
    manifest = json.loads(output.with_suffix(".manifest.json").read_text("utf-8"))
    return float(manifest["bits"]["quantized"])


def _row(name: str, cost: Cost, own: Mapping[str, float], output: Path) -> Row:
    return Row(
        name=name,
        scores=Scores(own=dict(own)),
        size_bytes=size_of(output),
        seconds=round(cost.seconds, 1),
        peak_bytes=cost.peak_bytes,
    )


def pydoc_lm(place: Place) -> list[Row]:
    """The repository's language model."""
    with np.load(PYDOC_LM.calibration) as data:
        calibration = data["input_ids"]
    with np.load(PYDOC_LM.heldout) as data:
        ids = data["input_ids"]
    return compared(_case(place, "pydoc_lm", PYDOC_LM.onnx, calibration, ids), BITS, BITS)


def stories260k(place: Place) -> list[Row]:
    """Searched with every other story of the evaluation, scored on those between."""
    from benchmarks.stories import calibration_windows

    with np.load(place.asset("stories260k/eval_ids.npz")) as data:
        ids, lengths = data["input_ids"], data["lengths"]
    calibration = calibration_windows(place.assets, count=48, length=128)
    case = _case(place, "stories260k", place.asset("stories260k/stories260k.onnx"), calibration, ids, lengths)
    return compared(case, BITS, BITS)


def tinylm(place: Place) -> list[Row]:
    """Calibrated on all four texts, searched with 32 windows of their ends, scored on 32 others."""
    from benchmarks import tinylm_data
    from qcompiler.models.export import export_transformers

    model = place.scratch / "tinylm" / "model.onnx"
    model.parent.mkdir()
    export_transformers(place.asset("tinylm/hf"), model, inputs=["input_ids"])
    ids = np.concatenate([rows[:16] for rows in tinylm_data.scored_windows(place.assets).values()])
    calibration = tinylm_data.calibration_windows(place.assets, "mixed", count=64, length=128)
    return compared(_case(place, "tinylm", model, calibration, ids), (3.5,), BITS)


def _case(
    place: Place,
    title: str,
    model: Path,
    calibration: Ids,
    ids: Ids,
    lengths: Ids | None = None,
) -> AutoCase:
    ends = np.full(len(ids), ids.shape[1]) if lengths is None else lengths
    return AutoCase(
        title=title,
        model=model,
        calibration=save_samples(place.scratch / "calibration.npz", {"input_ids": calibration}),
        judged=save_samples(place.scratch / "judged.npz", half(ids, ends, 0)),
        scored=save_samples(place.scratch / "scored.npz", half(ids, ends, 1)),
        metric="perplexity",
        scratch=place.scratch,
        options=("--min-cosine", "0"),
        target="ort-cpu:size_first=true",
    )


def shape(place: Place) -> list[Row]:
    """Searches of models of Llama's shape."""
    rows = []
    for layers in LAYERS:
        model, sizes = model_of(place.assets, layers), Shape(layers)
        words = [
            "--passes",
            "auto",
            "--bits",
            "3.5",
            "--metric",
            "perplexity",
            "--verify",
            "none",
            "--estimate",
        ]
        words += ["--calib", str(save_windows(place.scratch / "tokens.npz", sizes))]
        words += ["--metric-data", str(save_windows(place.scratch / "judged.npz", sizes, VERIFIED))]
        output = place.scratch / "made" / "model.qc.onnx"
        cost = run(model, [*words, "--target", "ort-cpu:size_first=true"], output)
        own = {PROCESSOR: rounded(cost.processor_seconds)}
        rows.append(_row(f"auto --bits 3.5 --estimate, {layers} layers", cost, own, output))
        print(rows[-1].model_dump_json(exclude_defaults=True), file=sys.stderr, flush=True)
    return [*rows, projected(*rows)]


def projected(first: Row, second: Row) -> Row:
    """Processor time of all layers: as much more for each as the last that was run took."""
    one, two = (row.scores.own[PROCESSOR] for row in (first, second))
    own = {
        PROCESSOR: rounded(one + (Shape.layers - LAYERS[0]) * (two - one)),
        f"{PROCESSOR} a layer": rounded(two - one),
    }
    name = f"auto --bits 3.5 --estimate, {Shape.layers} layers: projection from {LAYERS[0]} and {LAYERS[1]}, not run"
    return Row(name=name, scores=Scores(own=own))


def _question(name: str, title: str, data: str, measure: Callable[[Place], list[Row]]) -> Question:
    return Question(
        name=f"auto_estimates_{name}",
        title=title,
        data=data,
        measure=measure,
        module=f"auto_estimates {name}",
        needs_assets=name != "pydoc_lm",
    )


QUESTIONS = {
    "pydoc_lm": _question(
        "pydoc_lm",
        "Searches that estimate on pydoc_lm (in the repository)",
        "calibrated on 64 windows of 128 bytes, searched with 32 held-out ones, scored on 32 others",
        pydoc_lm,
    ),
    "stories260k": _question(
        "stories260k",
        "Searches that estimate on stories260k",
        "calibrated on 48 windows of 128 tokens, searched with 30 stories, scored on 30 others",
        stories260k,
    ),
    "tinylm": _question(
        "tinylm",
        "Searches that estimate on tinylm",
        "calibrated on 64 windows of 128 tokens, searched with 32 windows of 256, scored on 32 others",
        tinylm,
    ),
    "shape": _question(
        "shape",
        "Searches of a Llama of 1.1 billion parameters",
        "random weights; calibrated on 64 windows of 128 random tokens, searched with 2",
        shape,
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Answer for the model that the first word names, or for all but ``shape``, which needs another folder."""
    if arguments and arguments[0] in QUESTIONS:
        return answer(QUESTIONS[arguments[0]], arguments[1:])
    return max(answer(question, arguments) for name, question in QUESTIONS.items() if name != "shape")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
