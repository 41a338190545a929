"""How good and fast is int8 ResNet-20 on CIFAR-10?

python -m benchmarks.resnet20 --assets ../shared/assets
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from benchmarks.classifier import ClassifierScore
from benchmarks.compare import Task, compare, ours, peers, save_samples
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row

MEAN = np.array((0.485, 0.456, 0.406), np.float32)
STD = np.array((0.229, 0.224, 0.225), np.float32)
CALIBRATED = 500
VERIFIED = 64
FOLDER = "resnet20_cifar10"


def normalize(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """uint8 ``[N, 32, 32, 3]`` to float32 ``[N, 3, 32, 32]``."""
    scaled = (pixels.astype(np.float32) / np.float32(255) - MEAN) / STD
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def task_of(place: Place) -> Task:
    """Calibrate on 500 pictures of the training part, score on 2,000 of the test part."""
    model = place.asset(f"{FOLDER}/resnet20_cifar10.onnx")
    with np.load(place.asset(f"{FOLDER}/cifar10_subset.npz")) as archive:
        images, labels, training = (archive[name] for name in ("test_images", "test_labels", "calib_images"))
    samples, unscored = normalize(images), normalize(training)
    calibration, verification = unscored[:CALIBRATED], unscored[CALIBRATED : CALIBRATED + VERIFIED]
    return Task(
        model=model,
        score=ClassifierScore(model, "input", samples, labels),
        timings={"1 picture": {"input": samples[:1]}, "16 pictures": {"input": samples[:16]}},
        calibration=save_samples(place.scratch / "calibration.npz", {"input": calibration}),
        verification=save_samples(place.scratch / "verification.npz", {"input": verification}),
    )


def measure(place: Place) -> list[Row]:
    """Ours and ONNX Runtime's."""
    contenders = [
        *ours("int8_static,bias_correction", "int8_static"),
        *peers("quantize_static uint8 per channel", "quantize_static default", "quantize_dynamic"),
    ]
    return compare(task_of(place), contenders, place.scratch)


QUESTION = Question(
    name="resnet20",
    title="ResNet-20, CIFAR-10",
    data="calibrated on 500 training pictures, scored on 2,000 test pictures",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
