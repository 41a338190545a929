"""Top-1: how often the largest class is the right one, or the one that the float model gives."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.auto.losses.yardstick import Kind, judged_outputs
from qcompiler.auto.metrics.data import LABELS, MetricData
from qcompiler.auto.metrics.metric import Metric, absolute_drop
from qcompiler.backends.base import Session
from qcompiler.backends.run_feed import run_feed
from qcompiler.data.feeds import Array
from qcompiler.errors import CalibrationError

Classes = npt.NDArray[np.int64]


@dataclass
class Top1(Metric):
    """Share of rows whose largest class is right."""

    data: MetricData
    output: str
    right: Sequence[Classes]
    """The right classes, one array for each feed."""
    labelled: bool
    name: str = "top1"
    surrogate: ClassVar[Kind | None] = "kl"
    scatters: ClassVar[bool] = True

    @property
    def words(self) -> str:  # type: ignore[override]
        return "top-1 accuracy" if self.labelled else "top-1 agreement with the float model"

    def measure(self, session: Session) -> float:
        hits = total = 0
        for index, (feed, right) in enumerate(zip(self.data, self.right, strict=True)):
            found = classes(np.asarray(run_feed(session, feed, index)[self.output]))
            if found.shape != right.shape:
                raise CalibrationError(
                    f"{self.output!r} gives classes {list(found.shape)}, and the labels are {list(right.shape)}; "
                    "give one label for each class that the model gives."
                )
            hits, total = hits + int(np.count_nonzero(found == right)), total + right.size
        return hits / total

    def loss(self, value: float, float_value: float) -> float:
        return absolute_drop(value, float_value, higher_is_better=True)


def classes(
    scores: Array,
) -> Classes:
    """Index of the largest of ``[..., C]``; integers are classes already.  NaN is no class: -1."""
    if scores.dtype.kind in "iu":
        return scores.astype(np.int64)
    best = np.argmax(scores, axis=-1).astype(np.int64)
    return np.where(np.isnan(scores.astype(np.float32)).any(axis=-1), -1, best)


def open_top1(reference: ir.Model, data: MetricData) -> Top1:
    """Top-1 accuracy where the data has labels, else agreement with the float model.

    Raises:
        CalibrationError: labels that do not fit the model's classes, or no feeds.
    """
    output = _class_output(reference)
    labels = data.first(LABELS)
    found = _float_classes(reference, data, output)
    if labels is None:
        return Top1(data, output, found, labelled=False)
    if labels.dtype.kind not in "iu":
        raise CalibrationError(f"labels are {labels.dtype}, expected class indices; give integers.")
    starts = np.cumsum([0, *(len(part) for part in found)])
    parts = [labels[start:stop].astype(np.int64) for start, stop in itertools.pairwise(starts)]
    wrong = next((part for part, given in zip(found, parts, strict=True) if part.shape != given.shape), None)
    if wrong is not None:
        raise CalibrationError(
            f"the model gives classes {list(wrong.shape)} for a feed and the labels are {list(labels.shape)}; give one "
            "label for each class that the model gives."
        )
    if not any((part == given).any() for part, given in zip(found, parts, strict=True)):
        raise CalibrationError(
            f"the float model gives none of the {labels.size} labels ({labels.min()} to {labels.max()}), so nothing "
            "can be lost; look whether they count classes as the model does, and belong to these rows."
        )
    return Top1(data, output, parts, labelled=True)


def _class_output(model: ir.Model) -> str:
    """The output that classes are read from: integers where the model gives labels, else the first judged one."""
    floats = [
        value for value in model.graph.outputs if value.dtype is None or value.dtype.is_floating_point()
    ]
    return judged_outputs(model)[0] if floats else str(model.graph.outputs[0].name)


def _float_classes(model: ir.Model, data: MetricData, output: str) -> list[Classes]:
    from qcompiler.verify.observed import OracleModel

    session = OracleModel(model, threads=1).session([output])
    found = [
        classes(np.atleast_1d(np.asarray(run_feed(session, feed, index)[output])))
        for index, feed in enumerate(data)
    ]
    if not found:
        raise CalibrationError("there is no data to measure top1 on: give at least one feed.")
    return found
