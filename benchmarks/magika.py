"""How good and fast is int8 magika, a classifier of file types?

python -m benchmarks.magika --assets ../shared/assets
"""

from __future__ import annotations

import sys

import numpy as np

from benchmarks.classifier import ClassifierScore
from benchmarks.compare import Task, compare, ours, peers, save_samples
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row

EVERY = 8
VERIFIED = 16
FOLDER = "magika"


def measure(place: Place) -> list[Row]:
    """Calibrate on every eighth file, score on the others but 16, on which the result is verified."""
    model = place.asset(f"{FOLDER}/standard_v3_3.onnx")
    with np.load(place.asset(f"{FOLDER}/magika_eval.npz")) as archive:
        content, labels = archive["bytes"].astype(np.int32), archive["label"]
    others = np.flatnonzero(np.arange(len(content)) % EVERY)
    scored, verified = others[:-VERIFIED], others[-VERIFIED:]
    task = Task(
        model=model,
        score=ClassifierScore(model, "bytes", content[scored], labels[scored]),
        timings={"1 file": {"bytes": content[:1]}, "16 files": {"bytes": content[:16]}},
        calibration=save_samples(place.scratch / "calibration.npz", {"bytes": content[::EVERY]}),
        verification=save_samples(place.scratch / "verification.npz", {"bytes": content[verified]}),
    )
    contenders = [
        *ours("int8_static,bias_correction", "int8_static", "int8_dynamic"),
        *peers("quantize_static uint8 per channel", "quantize_static default", "quantize_dynamic"),
    ]
    return compare(task, contenders, place.scratch)


QUESTION = Question(
    name="magika",
    title="magika standard_v3_3",
    data="calibrated on 135 files, scored on 929 others",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
