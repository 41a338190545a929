"""Running the passes: calibrate, apply, next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.calibration.collect import Progress, collect
from qcompiler.calibration.requests import Request
from qcompiler.calibration.statistics import Answer, Statistics
from qcompiler.data.feeds import FeedSource
from qcompiler.errors import CalibrationError
from qcompiler.graph.names import names_kept
from qcompiler.pipeline.base import Pass, PassContext, PassReport
from qcompiler.prepare.clean import remove_unused


@dataclass
class Pipeline:
    """Passes over one prepared model; run again with fewer nodes, it reuses what it has already measured.

    Attributes:
        reference: the prepared float model; never changed.
        selected: nodes that the user's globs leave.
        feeds: calibration data, None where no pass needs any.
    """

    reference: ir.Model
    passes: Sequence[Pass]
    target: Target
    selected: frozenset[str]
    feeds: FeedSource | None
    batches: int | None = None
    progress: Progress | None = None
    _answers: dict[tuple[int, Request], Answer] = field(default_factory=dict)

    def run(self, reverted: frozenset[str] = frozenset()) -> tuple[ir.Model, tuple[PassReport, ...]]:
        """Return the dialect model and what each pass did; ``reverted`` nodes stay float."""
        model = self.reference.clone()
        reports = []
        for index, item in enumerate(self.passes):
            selected = self.selected - reverted if item.quantizes else self.selected
            context = PassContext(model, self.reference, selected, self.target)
            statistics = self._statistics(index, item.statistics(context), model)
            with names_kept(model):
                reports.append(item.apply(context, statistics))
            remove_unused(model)
        return model, tuple(reports)

    def _statistics(self, index: int, requests: Sequence[Request], model: ir.Model) -> Statistics:
        missing = [request for request in requests if (index, request) not in self._answers]
        if missing:
            if self.feeds is None:
                raise AssertionError("data was checked before the first pass ran")
            found = collect(model, missing, self.feeds, batches=self.batches, progress=self.progress)
            answers = {**self._known(index), **found.answers}
        else:
            answers = self._known(index)
        if not any(earlier.quantizes for earlier in self.passes[:index]):
            # The model up to here does not depend on what is reverted, so the answers stay true.
            self._answers |= {(index, request): answer for request, answer in answers.items()}
        return Statistics(answers)

    def _known(self, index: int) -> dict[Request, Answer]:
        return {request: answer for (at, request), answer in self._answers.items() if at == index}


def require_data(passes: Sequence[Pass], calibration: object | None) -> None:
    """Refuse a pipeline that needs data it was not given.

    Raises:
        CalibrationError: names the passes.
    """
    needy = [item.name for item in passes if item.needs_data]
    if needy and calibration is None:
        raise CalibrationError(
            f"{', '.join(needy)} need{'s' if len(needy) == 1 else ''} calibration data: give --calib with a "
            ".npz, a folder of pictures, a text file or another form (docs/guide.md), or --calib random."
        )
