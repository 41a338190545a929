"""How good and fast is int8 MobileNetV1, against ONNX Runtime's quantizers on the same 100 pictures?

python -m benchmarks.mobilenet --assets ../shared/assets
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.classifier import ClassifierScore
from benchmarks.compare import Task, compare, ours, peers, save_samples
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row
from qcompiler.data.optional import load_package

EVERY = 5
SCORED = 300
VERIFIED = 16
FOLDER = "mobilenet_v1"


def find_pictures(place: Place) -> list[Path]:
    """The pictures in the order of their names, which are their classes."""
    load_package("PIL.Image", purpose="to read pictures")
    return sorted(place.asset(f"{FOLDER}/images").glob("*.jpg"))


def load_pictures(paths: list[Path]) -> npt.NDArray[np.float32]:
    """float32 ``[N, 3, 224, 224]`` in [-1, 1]."""
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(127.5) - 1


def task_of(place: Place) -> Task:
    """Calibrate on every fifth picture, score on 300 of the others."""
    model = place.asset(f"{FOLDER}/mobilenet_v1_0.75_224.onnx")
    paths = find_pictures(place)
    others = [path for index, path in enumerate(paths) if index % EVERY]
    scored, verified = others[:SCORED], others[SCORED : SCORED + VERIFIED]
    samples, labels = load_pictures(scored), np.array([int(path.stem) for path in scored])
    return Task(
        model=model,
        score=ClassifierScore(model, "input", samples, labels),
        timings={"1 picture": {"input": samples[:1]}},
        calibration=save_samples(place.scratch / "calibration.npz", {"input": load_pictures(paths[::EVERY])}),
        verification=save_samples(place.scratch / "verification.npz", {"input": load_pictures(verified)}),
    )


def measure(place: Place) -> list[Row]:
    """Ours and ONNX Runtime's."""
    contenders = [
        *ours("int8_static,bias_correction", "int8_static"),
        *peers("quantize_static uint8 per channel", "quantize_static default", "quantize_dynamic"),
    ]
    return compare(task_of(place), contenders, place.scratch)


QUESTION = Question(
    name="mobilenet",
    title="MobileNetV1 0.75, 224x224",
    data="calibrated on 100 pictures, scored on 300 others",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
