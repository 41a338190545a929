"""The search: measure every choice, solve, compile and measure the deployed model, tighten, and publish the best."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx_ir as ir

from qcompiler.auto.bounds import Settled, check_bounds, refuse_impossible_size, settle
from qcompiler.auto.builds import Builds
from qcompiler.auto.candidates import Wanted
from qcompiler.auto.choices import make_problem
from qcompiler.auto.corrections import choose_correction
from qcompiler.auto.facts import Bounds, Front
from qcompiler.auto.form import form_for, smallest_form
from qcompiler.auto.judge import Judge
from qcompiler.auto.loop import Candidate, Loop
from qcompiler.auto.metrics import named_function, open_metric
from qcompiler.auto.outcome import Kept, SearchResult, publish
from qcompiler.auto.pareto import trace_front
from qcompiler.auto.recipe import words
from qcompiler.auto.solve import require_solver
from qcompiler.auto.tables import measure
from qcompiler.auto.transforms import choose_transform
from qcompiler.auto.user_metric import code_digest
from qcompiler.backends.base import Target
from qcompiler.calibration.collect import Progress
from qcompiler.driver import DEFAULT_OPTIONS, output_path
from qcompiler.driver import compile as compile_model
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.load import load_model
from qcompiler.package.manifest import file_record, package_versions
from qcompiler.pipeline.journal import FolderJournal
from qcompiler.pipeline.selected import Selected
from qcompiler.prepare import prepare
from qcompiler.prepare.select import select_nodes
from qcompiler.request import DEFAULT_TARGET, CompileOptions, globs
from qcompiler.result import CompileResult
from qcompiler.samples import open_samples
from qcompiler.sequential import SEARCH
from qcompiler.sequential.work import feeds_digest, model_digest, work_folder
from qcompiler.tensors import spooling

logger = logging.getLogger(__name__)
Model = str | Path | onnx.ModelProto | ir.Model


@dataclass(frozen=True)
class SearchOptions:
    """Settings of a search that are no bounds.

    Attributes:
        compile: of every compile in it.
        pareto: trace the front of size, latency and loss too.
        rounds: programs that are solved at most.
    """

    compile: CompileOptions = DEFAULT_OPTIONS
    pareto: bool = False
    rounds: int = 6


@dataclass
class _Asked:
    """What the user asked for, opened."""

    model: Model
    source: ir.Model
    calibration: object | None
    target: Target
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    path: Path
    options: SearchOptions
    progress: Progress | None
    bounds: Bounds
    notes: list[str] = field(default_factory=list)


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
    asked = _opened(model, calibration, target, (include, exclude), output, options, progress, bounds)
    bounds = bounds or Bounds()
    with spooling(asked.path.parent), _working(asked, metric_data, [metric, code_digest(function)]) as bench:
        started = time.monotonic()
        reading = asked.options.compile.data
        measured_on = bench.samples.held_out
        judge = Judge.of(
            bench, open_metric(metric, bench.reference, measured_on, metric_data, reading, function)
        )
        settled = settle(bounds, judge.metric.name)
        _refuse_untimed(settled, judge)
        bench.tell(SEARCH, 0, None)
        bench.variant, compared = choose_transform(bench.problem, bench, judge, settled)
        bench.variant, corrected = choose_correction(bench.problem, bench, judge)
        loop = Loop(
            bench,
            judge,
            settled,
            measure(bench.problem, bench, judge),
            lambda steps, number: _candidate(asked, bench, steps, number),
            rounds=asked.options.rounds,
            considered=[*compared, *corrected],
        )
        return _searched(asked, loop, started)


def _searched(asked: _Asked, loop: Loop, started: float) -> SearchResult:
    """Run the loop; whoever interrupts it gets the best that was verified."""
    front: Front | None = None
    stopped: BaseException | None = None
    try:
        loop.run()
        front = trace_front(loop) if asked.options.pareto else None
    except BaseException as error:
        if loop.best is None or isinstance(error, Exception):
            raise
        stopped = error
        logger.warning("interrupted: the best model that was verified so far goes to %s", asked.path)
    kept = Kept(asked.path, asked.include, asked.exclude, tuple(asked.notes), time.monotonic() - started)
    result = publish(loop, kept, front)
    if stopped is not None:
        raise stopped
    return result


def _opened(
    model: Model,
    calibration: object | None,
    target: str | Target | None,
    nodes: tuple[str | Sequence[str], str | Sequence[str]],
    output: str | Path | None,
    options: SearchOptions | None,
    progress: Progress | None,
    bounds: Bounds | None,
) -> _Asked:
    from qcompiler.pipeline.parse import parse_target

    check_bounds(bounds or Bounds())
    chosen = DEFAULT_TARGET if target is None else target
    resolved = (parse_target(chosen) if isinstance(chosen, str) else chosen).resolved()
    reason = resolved.available()
    if reason is not None:
        raise UnsupportedError(f"target {resolved.name} cannot be used here: {reason}.")
    resolved, notes = smallest_form(resolved, bounds or Bounds()) if target is None else (resolved, [])
    include, exclude = map(globs, nodes)
    path = output_path(model, output, resolved.suffix)
    settings = options or SearchOptions()
    return _Asked(
        model,
        load_model(model),
        calibration,
        resolved,
        include,
        exclude,
        path,
        settings,
        progress,
        bounds or Bounds(),
        notes,
    )


@contextlib.contextmanager
def _working(asked: _Asked, metric_data: object | None, metric: Sequence[str | None]) -> Iterator[Builds]:
    """The model prepared, the problem made, and a folder beside the output that outlives an interruption."""
    options = asked.options.compile
    source = asked.source
    samples = open_samples(source, asked.calibration, options)
    prepare(source, opset=options.opset)
    asked.target.require_importable(source)
    selected = select_nodes(source, asked.include, asked.exclude)
    problem = make_problem(source, selected, asked.target, _wanted(asked, samples.calibration is not None))
    key = {
        "model": model_digest(source),
        "target": words(asked.target, asked.target.name),
        "choice of nodes": sorted(selected),
        "data": [feeds_digest(samples.calibration), feeds_digest(samples.held_out)],
        "metric": [*metric, _identity(metric_data)],
        "threads": options.threads,
        "version": package_versions(),
    }
    refuse_impossible_size(problem, source, asked.bounds)
    with work_folder(asked.path, key) as folder:
        journal = FolderJournal(_made(folder / "journal"))
        yield Builds(
            source,
            problem,
            asked.target,
            samples,
            selected,
            folder,
            journal,
            options.threads,
            asked.progress,
        )


def _wanted(asked: _Asked, has_data: bool) -> Wanted:
    """Which choices the bounds make worth a measurement."""
    bounds = asked.bounds
    fast = (
        bounds.prefer == "speed" or bounds.max_latency_ms is not None or bounds.max_latency_ratio is not None
    )
    small = (
        bounds.prefer in (None, "size") or bounds.max_size_bytes is not None or bounds.max_bits is not None
    )
    return Wanted(
        has_data, small=small, bits=bounds.max_bits is not None, fast=fast or bounds.max_bits is None
    )


def _identity(data: object | None) -> str | None:
    """What tells data from other data: a file's bytes; anything else is never taken for known."""
    if data is None:
        return None
    if isinstance(data, str | Path) and Path(data).is_file():
        return file_record(Path(data)).sha256
    return uuid.uuid4().hex


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


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


def _candidate(asked: _Asked, bench: Builds, steps: Sequence[Selected], number: int) -> CompileResult:
    """Compile a candidate as ``--recipe`` would, into a folder of its own."""
    options = asked.options.compile
    checked = dataclasses.replace(options, verify="numerics" if options.verify == "speed" else options.verify)
    return compile_model(
        asked.model,
        list(steps),
        calibration=asked.calibration,
        target=form_for(asked.target, steps),
        include=asked.include,
        exclude=asked.exclude,
        output=bench.folder / f"candidate_{number}" / asked.path.name,
        options=checked,
        progress=asked.progress,
    )


__all__ = ["Candidate", "SearchOptions", "SearchResult", "search"]
