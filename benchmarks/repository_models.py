"""What does int8 cost the two models of the repository, and what does it bring?

python -m benchmarks.repository_models
"""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.compare import Task, compare, ours, peers, save_samples
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores
from qcompiler.models.catalog import DIGITS, PYDOC_LM, Feeds, TrainedModel

MODULE = "repository_models"
VERIFIED = 8
STATIC_PEERS = ("quantize_static uint8 per channel", "quantize_static default")


def measure_model(
    model: TrainedModel, timings: dict[str, int], place: Place, passes: tuple[str, ...]
) -> list[Row]:
    """Calibrate on the data beside the model, score on its held-out data; ``timings`` are samples a call."""

    def score(path: Path) -> Scores:
        found = model.evaluate(path)
        if model.metric == "accuracy":
            return Scores(own={"accuracy %": 100 * found})
        return Scores(own={"perplexity": found})

    heldout = model.heldout_feeds()
    task = Task(
        model=model.onnx,
        score=score,
        timings={
            words: {name: array[:count] for name, array in heldout.items()}
            for words, count in timings.items()
        },
        calibration=model.calibration,
        verification=save_samples(place.scratch / "verification.npz", _first(heldout, VERIFIED)),
    )
    return compare(task, [*ours(*passes), *peers(*STATIC_PEERS, "quantize_dynamic")], place.scratch)


def _first(feeds: Feeds, count: int) -> Feeds:
    return {name: array[:count] for name, array in feeds.items()}


def measure_digits(place: Place) -> list[Row]:
    """The convolutional classifier."""
    return measure_model(
        DIGITS,
        {"1 picture": 1, "16 pictures": 16},
        place,
        ("int8_static,bias_correction", "int8_static"),
    )


def measure_pydoc_lm(place: Place) -> list[Row]:
    """The language model."""
    return measure_model(
        PYDOC_LM,
        {"1 x 128": 1, "8 x 128": 8},
        place,
        ("smoothquant,int8_dynamic", "int8_dynamic", "smoothquant,int8_static"),
    )


QUESTIONS = (
    Question(
        name="digits",
        title="digits (in the repository)",
        data="calibrated on 256 training pictures, scored on 360 held-out ones",
        measure=measure_digits,
        module=MODULE,
        needs_assets=False,
    ),
    Question(
        name="pydoc_lm",
        title="pydoc_lm (in the repository)",
        data="calibrated on 64 windows of 128 bytes, scored on 64 held-out ones",
        measure=measure_pydoc_lm,
        module=MODULE,
        needs_assets=False,
    ),
)

if __name__ == "__main__":
    sys.exit(max(answer(question) for question in QUESTIONS))
