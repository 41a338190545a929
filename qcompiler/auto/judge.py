"""Judging deployed models: bytes of their files, milliseconds of a run, and what the user's metric lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import Assignment, Totals, Workbench
from qcompiler.auto.latency.deployed import measured_in_turns, measured_ms
from qcompiler.auto.losses.sensitivity import loss_feeds, unseen_feeds
from qcompiler.auto.losses.streams import float_session
from qcompiler.auto.losses.yardstick import Yardstick
from qcompiler.auto.metrics.metric import Metric
from qcompiler.auto.variants import Variant
from qcompiler.backends.base import Session
from qcompiler.result import manifest_path, result_files
from qcompiler.verify.segmented import LARGE_BYTES, weight_bytes

Figures = dict[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Judged:
    """A deployed model.

    Attributes:
        value: of the metric.
        surrogate: the loss that estimates are in, of the whole model.
        totals: with the drop of the metric as its loss.
        seconds: it took to build and to measure it.
    """

    value: float
    surrogate: float
    totals: Totals
    seconds: float = field(default=0.0, compare=False)


@dataclass
class Judge:
    """Measures deployed models of one search in the same way.

    Attributes:
        bench: the search's.
        metric: what the user judges by.
        yardstick: the loss that stands for it.
        float_value: the metric of the float model.
        timed: whether models of the target can be timed on this machine.
        float_ms: what one run of the float model counts as; 0 until a table of latencies says so.
        uniform: models of one choice everywhere that were judged so far.
    """

    bench: Builds
    metric: Metric
    yardstick: Yardstick
    float_value: float
    timed: bool
    float_ms: float = 0.0
    uniform: dict[str, Judged] = field(default_factory=dict)

    @classmethod
    def of(cls, bench: Builds, metric: Metric) -> Judge:
        """Measure the float model.

        Raises:
            QCompilerError: the metric cannot be computed of it.
        """
        feeds = loss_feeds(bench) if bench.problem.estimated else unseen_feeds(bench)
        yardstick = Yardstick.of(bench.reference, feeds, kind=metric.surrogate, threads=bench.threads)

        def measured() -> Figures:
            return {"value": np.array(metric.measure(_float_session(bench)), np.float64)}

        value = float(bench.journal.recall(f"float/{metric.name}", measured)["value"])
        timed = not (bench.target.caveat() or bench.target.untimed or bench.problem.estimated)
        return cls(bench, metric, yardstick, value, timed)

    @property
    def float_totals(self) -> Totals:
        """Of the float model."""
        return Totals(size_of(self.bench.float_path), self.float_ms, 0.0)

    def judge(self, path: Path) -> Judged:
        """Measure one model."""
        session = self.bench.target.session(path, threads=self.bench.threads)
        value = self.metric.measure(session)
        totals = Totals(size_of(path), self.latency_ms(path), self.metric.loss(value, self.float_value))
        return Judged(value, self.yardstick.loss(session), totals)

    def judge_once(self, key: str, path: Callable[[], Path]) -> Judged:
        """The same, from the journal where it was measured before.

        Args:
            key: what tells the model from others of the search.
            path: builds it, if need be.
        """

        def measured() -> Figures:
            started = time.monotonic()
            made = self.judge(path())
            totals, seconds = made.totals, time.monotonic() - started
            figures = [made.value, made.surrogate, totals.size_bytes, totals.latency_ms, totals.loss, seconds]
            return {"figures": np.array(figures, np.float64)}

        figures = self.bench.journal.recall(f"judged/{self.metric.name}/{key}", measured)["figures"]
        value, surrogate, size_bytes, latency_ms, loss, seconds = (float(each) for each in figures)
        return Judged(value, surrogate, Totals(size_bytes, latency_ms, loss), seconds)

    def surrogate(self, assignment: Assignment, variant: Variant) -> float:
        """The surrogate loss of an assignment's model, remembered."""

        def measured() -> Figures:
            built = self.bench.build_variant(assignment, variant)
            session = self.bench.target.session(built.path, threads=self.bench.threads)
            return {"loss": np.array([self.yardstick.loss(session)])}

        taken = ";".join(f"{name}={choice}" for name, choice in sorted(assignment.items()))
        key = f"surrogate/{self.yardstick.kind}/{variant.name}/{taken}"
        return float(self.bench.journal.recall(key, measured)["loss"][0])

    def latency_ms(self, path: Path) -> float:
        """Time of a run, by its ratio to the float model's beside it."""
        if not self.timed:
            return 0.0
        return measured_ms(path, self.bench, self.float_ms)

    def latencies_ms(self, models: Mapping[str, Path]) -> list[float]:
        """Times of models by what tells them from others of the search, in turns; remembered."""

        def measured() -> Figures:
            return {"ms": np.array(measured_in_turns(list(models.values()), self.bench, self.float_ms))}

        return [float(ms) for ms in self.bench.journal.recall(f"in turns/{' '.join(models)}", measured)["ms"]]


def size_of(path: Path) -> int:
    """Bytes of a compiled model's files, without the manifest."""
    return sum(file.stat().st_size for file in result_files(path) if file != manifest_path(path))


def _float_session(bench: Workbench) -> Session:
    """The float model as it would be deployed; a large one as it is written, within little memory."""
    if weight_bytes(bench.reference) > LARGE_BYTES:
        outputs = [str(value.name) for value in bench.reference.graph.outputs]
        return float_session(bench.reference, outputs, threads=bench.threads)
    from qcompiler.backends.onnxruntime.session import open_file, session_options

    return open_file(bench.float_path, session_options(threads=bench.threads))
