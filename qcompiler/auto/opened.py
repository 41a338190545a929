"""Opening what a search was asked for: model, data and target, the problem, and the folder that it goes on from."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
import onnx_ir as ir

from qcompiler.auto.bounds import check_bounds, refuse_few_bits
from qcompiler.auto.builds import Builds
from qcompiler.auto.estimated import is_large, narrowed
from qcompiler.auto.facts import Bounds
from qcompiler.auto.least import refuse_contradictions
from qcompiler.auto.problem.candidates import Wanted
from qcompiler.auto.problem.choices import make_problem
from qcompiler.auto.problem.form import smallest_form
from qcompiler.auto.recipe import words
from qcompiler.backends.base import Target
from qcompiler.calibration.collect import Progress
from qcompiler.driver import DEFAULT_OPTIONS, output_path
from qcompiler.errors import UnsupportedError
from qcompiler.load import load_model
from qcompiler.package.manifest import file_record, package_versions
from qcompiler.package.write import staged
from qcompiler.pipeline.journal import FolderJournal, Journal
from qcompiler.prepare import prepare
from qcompiler.prepare.select import select_nodes
from qcompiler.request import DEFAULT_TARGET, CompileOptions, globs
from qcompiler.samples import open_samples
from qcompiler.sequential.work import feeds_digest, model_digest, work_folder

Model = str | Path | onnx.ModelProto | ir.Model


@dataclass(frozen=True)
class SearchOptions:
    """Settings of a search that are no bounds.

    Attributes:
        compile: of every compile in it.
        pareto: trace the front of size, latency and loss too.
        rounds: programs that are solved at most.
        estimate: whether costs are estimated instead of measured; None: where the model is large.
    """

    compile: CompileOptions = DEFAULT_OPTIONS
    pareto: bool = False
    rounds: int = 6
    estimate: bool | None = None


@dataclass
class Asked:
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


def open_request(
    model: Model,
    calibration: object | None,
    target: str | Target | None,
    nodes: tuple[str | Sequence[str], str | Sequence[str]],
    output: str | Path | None,
    options: SearchOptions | None,
    progress: Progress | None,
    bounds: Bounds | None,
) -> Asked:
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
    return Asked(
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
def working(asked: Asked, metric_data: object | None, metric: Sequence[str | None]) -> Iterator[Builds]:
    """The model prepared, the problem made, and a folder beside the output that outlives an interruption."""
    options = asked.options.compile
    source = asked.source
    samples = open_samples(source, asked.calibration, options)
    prepare(source, opset=options.opset)
    asked.target.require_importable(source)
    selected = select_nodes(source, asked.include, asked.exclude)
    problem = make_problem(source, selected, asked.target, _wanted(asked, samples.calibration is not None))
    if is_large(problem, asked.bounds, asked.options.estimate):
        problem, note = narrowed(problem)
        asked.notes.append(note)
    key = {
        "model": model_digest(source),
        "target": words(asked.target, asked.target.name),
        "choice of nodes": sorted(selected),
        "data": [feeds_digest(samples.calibration), feeds_digest(samples.held_out)],
        "metric": [*metric, _identity(metric_data)],
        "threads": options.threads,
        "estimates instead of measurements": problem.estimated,
        "version": package_versions(),
    }
    refuse_few_bits(problem, asked.bounds)
    bench = Builds(
        source,
        problem,
        asked.target,
        samples,
        selected,
        asked.path.parent,
        Journal(),
        options.threads,
        asked.progress,
        name=asked.path.name,
        external=options.external,
    )
    with staged(asked.path.parent) as scratch:
        bench.least = refuse_contradictions(bench, asked.bounds, scratch)
    with work_folder(asked.path, key) as bench.folder:
        bench.journal = FolderJournal(_made(bench.folder / "journal"))
        yield bench


def _wanted(asked: Asked, has_data: bool) -> Wanted:
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
