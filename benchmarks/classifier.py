"""Scores of a classifier: top-1, agreement with the float model, and how far the logits are from float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.results_file import Scores
from qcompiler.measure.sessions import timing_session
from qcompiler.verify.metrics import Difference

Array = npt.NDArray[np.generic]
BATCH = 20
THREADS = 2


def run_batched(model: Path, name: str, samples: Array, *, batch: int = BATCH) -> Array:
    """First output ``[N, ...]`` for ``samples`` ``[N, ...]`` fed to the input ``name``."""
    session = timing_session(model, threads=THREADS)
    parts = [
        session.run(None, {name: samples[start : start + batch]})[0]
        for start in range(0, len(samples), batch)
    ]
    return np.concatenate(parts)


class ClassifierScore:
    """Scores classifiers on one set of samples; the float model's logits are computed once.

    Args:
        float_model: what others are compared with.
        name: the input that takes the samples.
        samples: ``[N, ...]``, unseen by calibration.
        labels: int ``[N]``, the index of the right class.
    """

    def __init__(self, float_model: Path, name: str, samples: Array, labels: Array) -> None:
        self._name, self._samples, self._labels = name, samples, labels
        self._reference = run_batched(float_model, name, samples)

    def __call__(self, model: Path) -> Scores:
        logits = run_batched(model, self._name, self._samples)
        difference = Difference()
        difference.update(self._reference, logits)
        chosen, expected = logits.argmax(axis=1), self._reference.argmax(axis=1)
        right = float(np.mean(chosen == self._labels))
        return Scores(
            own={"top-1 %": 100 * right},
            against_float={
                "drop": 100 * (float(np.mean(expected == self._labels)) - right),
                "agreement %": 100 * float(np.mean(chosen == expected)),
                "SQNR dB": difference.sqnr_db,
            },
        )
