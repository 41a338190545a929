"""The search: measure every choice, solve, compile and measure the deployed model, tighten, and publish the best."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.auto.bounds import Settled, settle
from qcompiler.auto.builds import Builds
from qcompiler.auto.compensation import compensated
from qcompiler.auto.compiled import Compiler
from qcompiler.auto.corrections import choose_correction
from qcompiler.auto.estimated import VARIANT, estimate
from qcompiler.auto.facts import Bounds
from qcompiler.auto.front import Front
from qcompiler.auto.judge import Judge
from qcompiler.auto.loop import Loop
from qcompiler.auto.metrics.metric import named_function, open_metric
from qcompiler.auto.metrics.user import code_digest
from qcompiler.auto.opened import Asked, Model, SearchOptions, open_request, working
from qcompiler.auto.outcome import Kept, SearchResult, publish
from qcompiler.auto.pareto import MEASURED, trace_front
from qcompiler.auto.schedule import usual_candidates
from qcompiler.auto.solve import require_solver
from qcompiler.auto.tables import Measured, measure
from qcompiler.auto.transforms import choose_transform
from qcompiler.auto.tried import Candidate
from qcompiler.auto.variants import Variant
from qcompiler.backends.base import Target
from qcompiler.calibration.collect import Progress
from qcompiler.errors import OptionError, QCompilerError
from qcompiler.pipeline.journal import JournalOf
from qcompiler.sequential import SEARCH
from qcompiler.tensors import spooling

logger = logging.getLogger(__name__)


def search(
    model: Model,
    calibration: object | None = None,
    *,
    bounds: Bounds | None = None,
    metric: str | None = None,
    metric_data: object | None = None,
    target: str | Target | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    output: str | Path | None = None,
    options: SearchOptions | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Find which choice each node gets so that the bounds hold, and compile that.

    Args:
        model: a file, or a model in memory, which is not changed.
        calibration: as of :func:`qcompiler.compile`; without it only choices that need none are looked at.
        bounds: what must hold; none: a drop of 0.01 of the metric.
        metric: top1, perplexity, spearman, kl, relative_error or ``module:function``; None: by the model and its data.
        metric_data: what the metric is computed on; None: what is held out of ``calibration``.
        target: as of :func:`qcompiler.compile`.
        include: globs of the nodes that are decided.
        exclude: globs of nodes that stay in float.
        output: as of :func:`qcompiler.compile`.
        options: everything else.
        progress: called with a label, steps done, and steps in all where known.

    Returns:
        The published model, what was predicted and measured of it, and what else was looked at.

    Raises:
        UnsupportedError: the bounds exclude each other, or no model that was tried keeps them; says what is possible.
        QCompilerError: see :mod:`qcompiler.errors`.
    """
    require_solver()
    function = named_function(metric)
    asked = open_request(model, calibration, target, (include, exclude), output, options, progress, bounds)
    digest = [metric, code_digest(function)]
    with spooling(asked.path.parent), working(asked, metric_data, digest) as bench:
        reading = asked.options.compile.data
        opened = open_metric(metric, bench.reference, bench.samples.held_out, metric_data, reading, function)
        judge = Judge.of(bench, opened)
        settled = settle(asked.bounds, judge.metric.name)
        _refuse_untimed(settled, judge)
        if reason := bench.target.caveat() or bench.target.untimed:
            asked.notes.append(f"models of target {bench.target.name} are not timed here: {reason}.")
        return _Search(asked, bench, judge, settled).run()


@dataclass
class _Search:
    """A search that can begin; ``loop`` is None until everything was measured."""

    asked: Asked
    bench: Builds
    judge: Judge
    settled: Settled
    loop: Loop | None = None

    def run(self) -> SearchResult:
        """Search and publish; whoever interrupts it gets the best that is verified."""
        try:
            loop = self.loop = self._measured()
            loop.run()
            front = trace_front(loop) if self.asked.options.pareto else None
        except Exception:
            raise
        except BaseException:
            self._keep_best()
            raise
        return self._publish(loop, front)

    def _measured(self) -> Loop:
        """Settle what concerns the whole model, and measure every choice of every group."""
        bench, judge = self.bench, self.judge
        later = MEASURED if self.asked.options.pareto else 0
        bounded = self.settled.bounds.max_drop is not None
        bench.schedule.plan("candidates", usual_candidates(bounded=bounded) + later)
        bench.tell(SEARCH)
        if bench.problem.estimated:
            bench.variant = VARIANT
            return self._loop(
                Measured(estimate(bench, judge.yardstick, self.settled, self.asked.options.compile), {}), []
            )
        placed = choose_transform(bench, judge, self.settled)
        bench.problem, bench.variant = placed.problem, placed.variant
        bench.variant, corrected = choose_correction(bench.problem, bench, judge)
        bench.journal = JournalOf(bench.journal, _digest(bench))
        measured = measure(bench.problem, bench, judge, self.settled)
        measured, variant, solved = compensated(bench, judge, self.settled, measured)
        return self._loop(measured, [*placed.said, *corrected, *solved], variant)

    def _loop(self, measured: Measured, considered: list[str], variant: Variant | None = None) -> Loop:
        asked = self.asked
        given = asked.options.compile
        checked = dataclasses.replace(given, verify="numerics" if given.verify == "speed" else given.verify)
        compiler = Compiler(
            asked.model,
            asked.calibration,
            asked.include,
            asked.exclude,
            asked.path.name,
            checked,
            self.bench,
        )
        return Loop(
            self.bench,
            self.judge,
            self.settled,
            measured,
            compiler,
            variant or self.bench.variant,
            asked.options.rounds,
            MEASURED if asked.options.pareto else 0,
            considered=considered,
        )

    def _publish(self, loop: Loop, front: Front | None = None) -> SearchResult:
        asked = self.asked
        seconds = self.bench.schedule.elapsed_seconds
        kept = Kept(asked.path, asked.include, asked.exclude, tuple(asked.notes), seconds)
        return publish(loop, kept, front)

    def _keep_best(self) -> None:
        """Publish the best candidate; where there is none yet, the best uniform model, once it is verified."""
        loop = self.loop or self._loop(Measured.early(self.bench.problem, self.judge.uniform), [])
        found = loop.best_uniform() if loop.best is None else None
        if found is not None:
            logger.warning(
                "interrupted before any mixed model keeps the bounds: verifying %s everywhere, the best of those "
                "measured so far (interrupt again to stop at once)",
                found[0],
            )
            try:
                loop.verify(loop.uniform(found[0]), self.bench.variant, found[1].totals)
            except QCompilerError as error:
                logger.warning("it cannot be published: %s", error)
        if loop.best is None:
            logger.warning(
                "interrupted: no model was verified yet that keeps the bounds, so none is published"
            )
            return
        logger.warning("interrupted: the best model that was verified so far goes to %s", self.asked.path)
        self._publish(loop)


def _digest(bench: Builds) -> str:
    """What figures of choices depend on beside their words."""
    settled = f"{bench.variant}\n{bench.problem.choices}"
    return hashlib.sha256(settled.encode()).hexdigest()[:16]


def _refuse_untimed(settled: Settled, judge: Judge) -> None:
    bounds = settled.bounds
    needs = (
        settled.prefer == "speed" or bounds.max_latency_ms is not None or bounds.max_latency_ratio is not None
    )
    if needs and not judge.timed:
        target = judge.bench.target
        raise OptionError(
            f"models of target {target.name} are not timed on this machine ({target.caveat() or target.untimed}); "
            "bound size or loss instead, or search on the machine that will run them."
        )


__all__ = ["Candidate", "SearchOptions", "SearchResult", "search"]
