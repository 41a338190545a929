"""What rotations at run time give an encoder in int8, and what they cost.

    python -m benchmarks.rotations --assets ../shared/assets

all-MiniLM-L6-v2 as ``benchmarks.minilm`` has it, on 100 pairs of sentences.
"""

from __future__ import annotations

import itertools
import sys

from benchmarks.compare import Task, compare, ours, save_samples
from benchmarks.minilm import BATCH, CALIBRATION_LENGTH, EVERY, VERIFIED, EncoderScore, read_pairs
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row
from qcompiler.models import minilm

SCORED = 100
LENGTH = 128
PIPELINES = (
    "int8_dynamic",
    "hadamard:size=16,int8_dynamic",
    "hadamard,int8_dynamic",
    "smoothquant,outlier_channels,int8_static",
    "hadamard,int8_static",
)


def measure(place: Place) -> list[Row]:
    """Calibrate on every tenth pair, score on the first of the others."""
    pairs = read_pairs(place.asset("stsb/stsb-en-dev.csv"))
    model = place.scratch / "minilm.onnx"
    minilm.export(model)
    known = pairs.select(slice(None, None, EVERY))
    others = pairs.select([row for row in range(len(pairs.first)) if row % EVERY][:SCORED])
    text = " ".join(itertools.islice(others.first, 100))
    calibration = minilm.tokenize([*known.first, *known.second], CALIBRATION_LENGTH)
    verification = minilm.tokenize(others.first[:VERIFIED], CALIBRATION_LENGTH)
    task = Task(
        model=model,
        score=EncoderScore(model, others),
        timings={f"1 x {LENGTH}": minilm.tokenize([text], LENGTH)},
        calibration=save_samples(place.scratch / "calibration.npz", calibration),
        verification=save_samples(place.scratch / "verification.npz", verification),
    )
    return compare(task, ours(*PIPELINES, batch=BATCH), place.scratch)


QUESTION = Question(
    name="rotations",
    title="Rotations at run time, all-MiniLM-L6-v2",
    data="calibrated on 300 sentences of STS-B dev, scored on 100 other pairs",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
