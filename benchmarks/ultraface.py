"""How close is the int8 face detector version-RFB-320 (opset 9) to float, and how much faster?

python -m benchmarks.ultraface --assets ../shared/assets
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.compare import Task, compare, ours, peers, save_samples
from benchmarks.detections import Floats, matched, suppress
from benchmarks.mobilenet import find_pictures
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler.measure.sessions import timing_session
from qcompiler.verify.metrics import Difference

EVERY = 5
VERIFIED = 8
FACE = 0.7
SUPPRESSED = 0.3
SAME = 0.5


def load_pictures(paths: list[Path]) -> npt.NDArray[np.float32]:
    """float32 ``[N, 3, 240, 320]``, (pixel - 127) / 128."""
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(path).convert("RGB").resize((320, 240))) for path in paths])
    return (np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) - 127) / np.float32(128)


def run(model: Path, pictures: Floats) -> tuple[Floats, Floats]:
    """Probability of a face ``[N, 4420]`` and corners ``[N, 4420, 4]``; the model takes one picture a call."""
    session = timing_session(model, threads=2)
    outputs = [session.run(["scores", "boxes"], {"input": picture[None]}) for picture in pictures]
    return np.concatenate([found[0][..., 1] for found in outputs]), np.concatenate(
        [found[1] for found in outputs]
    )


def faces(scores: Floats, boxes: Floats) -> list[Floats]:
    """Faces of each picture."""
    return [
        suppress(corners, face, threshold=FACE, most_overlap=SUPPRESSED)
        for face, corners in zip(scores, boxes, strict=True)
    ]


def compare_outputs(reference: tuple[Floats, Floats], found: tuple[Floats, Floats]) -> Scores:
    """How far scores and boxes are apart, and how many faces of float are found again."""
    differences = []
    for one, other in zip(reference, found, strict=True):
        differences.append(Difference())
        differences[-1].update(one, other)
    expected, seen = faces(*reference), faces(*found)
    pairs = [
        pair
        for one, other in zip(expected, seen, strict=True)
        for pair in matched(one, other, least_overlap=SAME)
    ]
    return Scores(
        own={"faces": float(sum(map(len, seen)))},
        against_float={
            "found again %": 100 * len(pairs) / max(1, sum(map(len, expected))),
            "mean overlap": float(np.mean(pairs)) if pairs else 0.0,
            "scores SQNR dB": differences[0].sqnr_db,
            "boxes SQNR dB": differences[1].sqnr_db,
        },
    )


def measure(place: Place) -> list[Row]:
    """Calibrate on every fifth picture, compare on another fifth."""
    model = place.asset("ultraface/version-RFB-320.onnx")
    paths = find_pictures(place)
    scored = load_pictures(paths[1::EVERY])
    reference = run(model, scored)
    calibrated, verified = load_pictures(paths[::EVERY]), load_pictures(paths[2::EVERY][:VERIFIED])
    task = Task(
        model=model,
        score=lambda path: compare_outputs(reference, run(path, scored)),
        timings={"1 picture": {"input": scored[:1]}},
        calibration=save_samples(place.scratch / "calibration.npz", {"input": calibrated}),
        verification=save_samples(place.scratch / "verification.npz", {"input": verified}),
    )
    contenders = [
        *ours("int8_static,bias_correction", "int8_static"),
        *peers("quantize_static uint8 per channel", "quantize_static default", "quantize_dynamic"),
    ]
    return compare(task, contenders, place.scratch)


QUESTION = Question(
    name="ultraface",
    title="ultraface version-RFB-320",
    data="calibrated on 100 pictures, compared with float on 100 others",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
