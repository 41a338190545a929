"""The driver: load, prepare, calibrate and pass, legalize, verify, package."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.budget import refuse_over_budget, within
from qcompiler.build import build
from qcompiler.calibration.collect import Progress
from qcompiler.checks import check, never_slower
from qcompiler.errors import OutputError
from qcompiler.findings import find_warnings, refuse_if_strict
from qcompiler.load import load_model
from qcompiler.package.records import make_manifest, write_manifest
from qcompiler.package.side_files import read_side_files
from qcompiler.package.write import publish, staged
from qcompiler.pipeline.base import Pass
from qcompiler.pipeline.run import Pipeline, require_data
from qcompiler.pipeline.selected import Selected, selections
from qcompiler.prepare import PrepareReport, prepare
from qcompiler.prepare.select import select_nodes
from qcompiler.remember import Solved, remembering
from qcompiler.request import CompileOptions, Request, resolve
from qcompiler.result import CompileResult, Origin
from qcompiler.samples import Samples, open_samples, require_runnable
from qcompiler.tensors import spooling
from qcompiler.verify.needs import refuse_unverifiable
from qcompiler.verify.segmented import note_cuts

DEFAULT_OPTIONS = CompileOptions()
AUTO = "auto"
"""Instead of passes: search for an assignment; :func:`qcompiler.auto.search.search` takes bounds too."""


def compile(
    model: str | Path | onnx.ModelProto | ir.Model,
    passes: str | Sequence[str | Pass | Selected] | None = None,
    *,
    recipe: str | Path | None = None,
    calibration: object | None = None,
    target: str | Target | None = None,
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    output: str | Path | None = None,
    options: CompileOptions = DEFAULT_OPTIONS,
    progress: Progress | None = None,
) -> CompileResult:
    """Compile a float model into a quantized one and prove it.

    Args:
        model: a file, or a model in memory, which is not changed.
        passes: the words of ``--passes`` ("smoothquant:alpha=0.6,int8_static"), or a list of such, of pass objects,
            and of passes with nodes of their own (:class:`qcompiler.pipeline.selected.Selected`); or "auto".
        recipe: a YAML file instead of ``passes``.
        calibration: a path, ``"random"``, a dict of arrays, an iterable of feeds, or a data set.
        target: "ort-cpu" unless said otherwise, with options ("ort-cpu:isa=avx2").
        include: globs of node names that passes may touch; all by default.
        exclude: globs of node names that stay as they are.
        output: a folder, or a file ending in ``.onnx``; beside the model by default, and in a temporary
            folder for a model in memory.
        options: everything else.
        progress: called with a label, steps done, and steps in all where known.

    Raises:
        QCompilerError: see :mod:`qcompiler.errors`; nothing is written then, but for what a sequential pass has
            solved, which another try finds in ``.{stem}.work`` beside the output.
    """
    if passes in (AUTO, [AUTO]) and recipe is None:
        return _searched(model, calibration, target, include, exclude, output, options, progress)
    request = resolve(passes, recipe, target, include, exclude)
    return compile_request(model, request, calibration, output, options, progress)


def compile_request(
    model: str | Path | onnx.ModelProto | ir.Model,
    request: Request,
    calibration: object | None,
    output: str | Path | None,
    options: CompileOptions = DEFAULT_OPTIONS,
    progress: Progress | None = None,
    solved: Solved | None = None,
) -> CompileResult:
    """:func:`compile` of what is resolved already.

    Args:
        model: as there.
        request: passes, target and nodes.
        calibration: as there.
        output: as there.
        options: as there.
        progress: as there.
        solved: what other pipelines over the same model and data have solved: not solved again, and added to.

    Raises:
        QCompilerError: as there.
    """
    path = output_path(model, output, request.target.suffix)
    side_files = read_side_files(model, path)
    source = load_model(model)
    require_data(request.passes, calibration)
    refuse_unverifiable(source, options.verify)
    samples = open_samples(source, calibration, options)
    with spooling(path.parent):
        prepared = _prepared(source, request, samples, options)
    pipeline = _pipeline(source, request, samples, progress)
    remembered = remembering(pipeline, path, options, request, solved)
    with within(options.max_ram_bytes), spooling(path.parent), staged(path.parent) as stage, remembered:
        built = build(pipeline, stage / path.name, (), external=options.external)
        built, speed = never_slower(built, pipeline, model, samples, options)
        verification = check(built, pipeline, samples, options)
        warnings = find_warnings(built, pipeline, prepared, samples, speed)
        refuse_if_strict(warnings, strict=options.strict)
        manifest = make_manifest(
            model,
            built,
            pipeline,
            request,
            samples,
            verification,
            (*warnings, *prepared.left, *request.notes),
        )
        write_manifest(manifest, built.path)
        side_files.write(stage)
        publish(stage, path.parent)
    return CompileResult(
        path=path,
        model=built.deployed,
        target=request.target,
        manifest=manifest,
        passes=built.passes,
        legalized=built.legalized,
        kernels=built.kernels,
        verification=verification,
        speed=speed,
        warnings=warnings,
        origin=Origin(model, samples.held_out, samples.held_out_note, options, built.dialect),
    )


def _prepared(source: ir.Model, request: Request, samples: Samples, options: CompileOptions) -> PrepareReport:
    """Prepare ``source`` in place, and refuse what could not be compiled in the end."""
    prepared = prepare(source, opset=max(options.opset, request.least_opset))
    note_cuts(source)
    request.target.require_importable(source)
    refuse_over_budget(source, request.passes, options.verify, options.max_ram_bytes)
    if samples.invented:
        require_runnable(source, samples, options.verify)
    return prepared


def _pipeline(source: ir.Model, request: Request, samples: Samples, progress: Progress | None) -> Pipeline:
    return Pipeline(
        source,
        request.passes,
        request.target,
        select_nodes(source, request.include, request.exclude),
        samples.calibration,
        samples.batches,
        progress,
        own=selections(source, request.steps),
    )


def _searched(
    model: str | Path | onnx.ModelProto | ir.Model,
    calibration: object | None,
    target: str | Target | None,
    include: str | Sequence[str],
    exclude: str | Sequence[str],
    output: str | Path | None,
    options: CompileOptions,
    progress: Progress | None,
) -> CompileResult:
    """What a search with its usual bound finds."""
    from qcompiler.auto.search import SearchOptions, search

    found = search(
        model,
        calibration,
        target=target,
        include=include,
        exclude=exclude,
        output=output,
        options=SearchOptions(options),
        progress=progress,
    )
    return found.result


def output_path(
    model: str | Path | onnx.ModelProto | ir.Model, output: str | Path | None, suffix: str = ".onnx"
) -> Path:
    """Where the compiled model goes: ``model.qc.onnx`` in the folder asked for, or the file asked for.

    Args:
        suffix: what the target's files end in, instead of ``.onnx``.

    Raises:
        OutputError: that is the model itself, or a file of another target.
    """
    stem = Path(model).stem if isinstance(model, str | Path) else "model"
    if output is None:
        folder = (
            Path(model).parent
            if isinstance(model, str | Path)
            else Path(tempfile.mkdtemp(prefix="qcompiler-"))
        )
        return folder / f"{stem}.qc{suffix}"
    chosen = Path(output)
    if chosen.suffix in (".onnx", ".tvm") and chosen.suffix != suffix and not chosen.is_dir():
        raise OutputError(
            f"{chosen} does not end in {suffix}, as models of this target do; give -o a folder."
        )
    path = chosen if chosen.suffix == suffix and not chosen.is_dir() else chosen / f"{stem}.qc{suffix}"
    if isinstance(model, str | Path) and path.exists() and path.samefile(model):
        raise OutputError(f"{path} is the model itself, which would be lost; choose another place with -o.")
    return path
