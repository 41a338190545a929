"""Running the passes: calibrate, apply, next."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.calibration.collect import NO_TWINS, Progress, collect
from qcompiler.calibration.requests import Gram, Request
from qcompiler.calibration.statistics import Answer, AnswersOnDemand, Statistics
from qcompiler.data.feeds import FeedSource
from qcompiler.errors import CalibrationError
from qcompiler.graph.names import names_kept
from qcompiler.pipeline.base import Pass, PassContext, PassReport
from qcompiler.pipeline.beside import Beside
from qcompiler.pipeline.journal import Journal, JournalOf
from qcompiler.pipeline.selected import reported
from qcompiler.prepare.clean import remove_unused


@dataclass
class Pipeline:
    """Passes over one prepared model; run again with fewer nodes, it reuses what it has already measured.

    Attributes:
        reference: the prepared float model; never changed.
        selected: nodes that the user's globs leave.
        feeds: calibration data, None where no pass needs any.
        journal: what passes have solved.
        own: nodes that each pass is for, of those selected; None: all. Empty: all for every pass.
        owners: names under which the journal keeps what each pass solved, where pipelines share it; their places in
            this one otherwise.
        seen: statistics of the reference itself, which pipelines may share.
        work: folder for activations between segments, used again by a run that resumes; None: a temporary one.
    """

    reference: ir.Model
    passes: Sequence[Pass]
    target: Target
    selected: frozenset[str]
    feeds: FeedSource | None
    batches: int | None = None
    progress: Progress | None = None
    journal: Journal = field(default_factory=Journal)
    work: Path | None = None
    own: Sequence[frozenset[str] | None] = ()
    owners: Sequence[str] = ()
    seen: dict[Request, Answer] = field(default_factory=dict)
    _answers: dict[tuple[int, Request], Answer] = field(default_factory=dict)

    def run(self, reverted: frozenset[str] = frozenset()) -> tuple[ir.Model, tuple[PassReport, ...]]:
        """Return the dialect model and what each pass did; ``reverted`` nodes stay float."""
        model = self.reference.clone()
        reports: list[PassReport] = []
        beside: Beside | None = None
        for group in _groups(self.passes):
            if any(self.passes[index].sequential for index in group):
                reports += self._by_segment(group, model, reverted)
                beside = None
                continue
            for index in group:
                beside = self._beside(index, model, reverted, beside)
                context = self._context(index, model, reverted)
                statistics = self._statistics(index, self.passes[index].statistics(context), model, beside)
                self.tell(self.passes[index].name)
                with names_kept(model):
                    reports.append(self.passes[index].apply(context, statistics))
                remove_unused(model)
        return model, reported(reports, self._own(), self.reference)

    def tell(self, stage: str) -> None:
        """Say what comes next to whoever follows the progress."""
        if self.progress is not None:
            self.progress(stage, 0, None)

    def _own(self) -> Sequence[frozenset[str] | None]:
        return self.own or (None,) * len(self.passes)

    def _is_partial(self, index: int) -> bool:
        """Whether a pass quantizes nodes of its own, beside others that do."""
        return self.passes[index].quantizes and self._own()[index] is not None

    def _beside(
        self, index: int, model: ir.Model, reverted: frozenset[str], beside: Beside | None
    ) -> Beside | None:
        """The model before the run of partial passes in which a pass stands; None where it stands in none."""
        if not self._is_partial(index) or beside is not None:
            return beside if self._is_partial(index) else None
        rest = range(index, len(self.passes))
        run = list(
            itertools.takewhile(lambda at: self._is_partial(at) and not self.passes[at].sequential, rest)
        )
        before = model.clone()
        asked = (self.passes[at].statistics(self._context(at, before, reverted)) for at in run)
        return Beside(index, before, frozenset(itertools.chain.from_iterable(asked)))

    def _context(self, index: int, model: ir.Model, reverted: frozenset[str]) -> PassContext:
        item = self.passes[index]
        own = self._own()[index]
        selected = self.selected if own is None else self.selected & own
        selected = selected - reverted if item.quantizes else selected
        journal = JournalOf(self.journal, self.owners[index] if self.owners else f"{index}")
        return PassContext(
            model,
            self.reference,
            selected,
            self.target,
            journal=journal,
            has_data=self.feeds is not None,
            following=tuple(self.passes[index + 1 :]),
            partners=self._partners(index, reverted),
        )

    def _partners(self, index: int, reverted: frozenset[str]) -> dict[str, Pass]:
        """Which pass of the same kind right behind a partial one is for a node."""
        rest = range(index, len(self.passes))
        kind = type(self.passes[index])
        run = itertools.takewhile(lambda at: self._is_partial(at) and type(self.passes[at]) is kind, rest)
        return {
            name: self.passes[at]
            for at in list(run)[:0:-1]  # of those that are for the same node the first serves it
            for name in (self._own()[at] or frozenset()) & self.selected - reverted
            if name not in (self._own()[index] or frozenset())
        }

    def _by_segment(
        self, group: Sequence[int], model: ir.Model, reverted: frozenset[str]
    ) -> list[PassReport]:
        # Imported here: only such passes need the machinery.
        from qcompiler.sequential.activations import Calibration
        from qcompiler.sequential.run import Step, run_segments

        steps = [
            Step(self.passes[index], self._context(index, model, reverted), self._is_partial(index))
            for index in group
        ]
        data = Calibration(self.feeds, self.batches, self.progress)
        with tempfile.TemporaryDirectory(prefix="qcompiler-") as scratch:
            # What is kept in `work` was computed with every node: of no use where some are left in float.
            folder = Path(scratch) if self.work is None or reverted else self.work / f"run_{group[0]}"
            folder.mkdir(parents=True, exist_ok=True)
            return run_segments(steps, data, folder, quantized_by=self._quantized_by(group[0]))

    def _quantized_by(self, index: int) -> list[str]:
        return [earlier.name for earlier in self.passes[:index] if earlier.quantizes]

    def _statistics(
        self, index: int, requests: Sequence[Request], model: ir.Model, beside: Beside | None
    ) -> Statistics:
        """Answers on demand, of the model as it stands now or before the passes that stand beside this one."""
        index = index if beside is None else beside.first
        known = self._known(index)
        missing = [request for request in requests if request not in known]
        if not missing:
            return Statistics(known)
        if beside is not None and beside.knows(missing):
            return Statistics(AnswersOnDemand(partial(beside.answers, self._measure)))
        return Statistics(AnswersOnDemand(partial(self._measure, index, missing, model.clone())))

    def _measure(self, index: int, requests: Sequence[Request], model: ir.Model) -> Statistics:
        if self.feeds is None:
            raise AssertionError("data was checked before the first pass ran")
        quantized = self._quantized_by(index)
        # All at once, a pass sees what the float model gives: there is no drift unless one quantized before.
        drifting = {item.value: item.value for item in requests if isinstance(item, Gram) and item.drift}
        found = collect(
            model,
            requests,
            self.feeds,
            batches=self.batches,
            progress=self.progress,
            twins=NO_TWINS if quantized else drifting,
        )
        answers = {**self._known(index), **found.answers}
        if not quantized:
            # The model up to here does not depend on what is reverted, so the answers stay true.  Gram matrices are
            # too large to keep: what was solved with them is in the journal.
            kept: dict[Request, Answer] = {
                request: answer for request, answer in answers.items() if not isinstance(request, Gram)
            }
            self._answers |= {(index, request): answer for request, answer in kept.items()}
            if index == 0:
                self.seen.update(kept)
        return Statistics(answers)

    def _known(self, index: int) -> dict[Request, Answer]:
        own = {request: answer for (at, request), answer in self._answers.items() if at == index}
        return own if index else {**self.seen, **own}


def is_sequential(passes: Sequence[Pass]) -> bool:
    """Whether any pass goes segment by segment, which takes long enough to be worth resuming."""
    return any(item.sequential for item in passes)


def _groups(passes: Sequence[Pass]) -> Iterator[list[int]]:
    """Indices of passes: longest runs of those that can go by segment, each other one alone."""
    run: list[int] = []
    for index, item in enumerate(passes):
        if item.by_segment:
            run.append(index)
            continue
        if run:
            yield run
        yield [index]
        run = []
    if run:
        yield run


def require_data(passes: Sequence[Pass], calibration: object | None) -> None:
    """Refuse a pipeline that needs data it was not given.

    Raises:
        CalibrationError: names the passes.
    """
    needy = [item.name for item in passes if item.asks_for_data]
    if needy and calibration is None:
        raise CalibrationError(
            f"{', '.join(needy)} need{'s' if len(needy) == 1 else ''} calibration data: give --calib with a "
            ".npz, a folder of pictures, a text file or another form (docs/guide.md), or --calib random."
        )
