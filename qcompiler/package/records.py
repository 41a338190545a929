"""Filling in the manifest."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import onnx
import onnx_ir as ir

from qcompiler.backends.base import NodeKernel
from qcompiler.build import Build
from qcompiler.graph.low_bit import low_bit_totals
from qcompiler.graph.weighted import FLOAT_TYPES
from qcompiler.package.manifest import (
    BitsRecord,
    CalibrationRecord,
    ConfiguredRecord,
    FileRecord,
    Manifest,
    NodeRecord,
    file_record,
    package_versions,
)
from qcompiler.package.write import cannot_write
from qcompiler.pipeline.base import PassReport
from qcompiler.pipeline.options import spelled
from qcompiler.pipeline.run import Pipeline
from qcompiler.pipeline.selected import Selected
from qcompiler.request import Request
from qcompiler.result import manifest_path, result_files
from qcompiler.samples import Samples
from qcompiler.verify.verify import Verification

FLOAT_BITS = 32


def make_manifest(
    model: str | Path | onnx.ModelProto | ir.Model,
    built: Build,
    pipeline: Pipeline,
    request: Request,
    samples: Samples,
    verification: Verification | None,
    notes: tuple[str, ...],
) -> Manifest:
    """Record a build; nothing in it depends on the time or the place of the run."""
    return Manifest(
        versions=package_versions(),
        source=_source_files(model),
        result=[file_record(path) for path in result_files(built.path)],
        calibration=_calibration(samples),
        pipeline=[_configured(step) for step in request.steps],
        target=ConfiguredRecord(
            name=request.target.name, options=spelled(request.target) | dict(built.legalized.measured)
        ),
        include=list(request.include),
        exclude=list(request.exclude),
        reverted=list(built.reverted),
        bits=_bits(pipeline, built),
        nodes=node_records(built.passes, built.kernels, verification),
        notes=list(notes),
    )


def _configured(step: Selected) -> ConfiguredRecord:
    return ConfiguredRecord(
        name=step.item.name,
        options=spelled(step.item),
        include=list(step.include),
        exclude=list(step.exclude),
    )


def write_manifest(manifest: Manifest, model: Path) -> None:
    """Write the manifest beside the model file.

    Raises:
        OutputError: the disk is full or the path cannot be written.
    """
    path = manifest_path(model)
    try:
        path.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise cannot_write(path.name, error) from error


def node_records(
    passes: tuple[PassReport, ...], kernels: tuple[NodeKernel, ...], verification: Verification | None
) -> list[NodeRecord]:
    """One record a node that any pass looked at, in the order of the first pass that did."""
    decisions: dict[str, dict[str, str]] = defaultdict(dict)
    op_types: dict[str, str] = {}
    for report in passes:
        for decision in report.nodes:
            op_types[decision.node] = decision.op_type
            if report.name in decisions[decision.node] and decision.action == "skipped":
                continue  # a pass that stands in the pipeline again, and left it as it had become
            decisions[decision.node][report.name] = f"{decision.action}: {decision.detail}"
    ran = {kernel.node: kernel for kernel in kernels}
    noise = {item.node: item.sqnr_db for item in verification.quantization.nodes} if verification else {}
    unknown = NodeKernel("", "", integer=False)
    return [
        NodeRecord(
            name=name,
            op_type=op_types[name],
            decisions=decisions[name],
            kernel=ran.get(name, unknown).kernel,
            integer=ran.get(name, unknown).integer,
            note=ran.get(name, unknown).note,
            sqnr_db=_rounded(noise.get(name)),
        )
        for name in decisions
    ]


def _rounded(decibels: float | None) -> float | None:
    """Two decimals: the rest changes with the number of threads."""
    return None if decibels is None or decibels != decibels or abs(decibels) > 1e6 else round(decibels, 2)


def _source_files(model: str | Path | onnx.ModelProto | ir.Model) -> list[FileRecord]:
    if not isinstance(model, str | Path):
        return []
    path = Path(model)
    proto = ir.load(path)
    locations = {
        str(value.const_value.location)
        for value in proto.graph.initializers.values()
        if isinstance(value.const_value, ir.ExternalTensor)
    }
    return [file_record(path), *(file_record(path.parent / location) for location in sorted(locations))]


def _calibration(samples: Samples) -> CalibrationRecord | None:
    source = samples.calibration
    if source is None:
        return None
    return CalibrationRecord(
        description=source.description,
        sha256=source.sha256,
        samples=source.samples,
        held_out=samples.held_out_note,
    )


def _bits(pipeline: Pipeline, built: Build) -> BitsRecord:
    """Float weights of the prepared model against all that the compiled one stores."""
    parameters = sum(
        value.const_value.size
        for graph in (pipeline.reference.graph, *pipeline.reference.graph.subgraphs())
        for value in graph.initializers.values()
        if value.const_value is not None and value.dtype in FLOAT_TYPES
    )
    stored = sum(
        value.const_value.nbytes
        for graph in (built.deployed.graph, *built.deployed.graph.subgraphs())
        for value in graph.initializers.values()
        if value.const_value is not None
    )
    asked = (item.weight_bits(pipeline.target) for item in pipeline.passes)
    weights, bits = low_bit_totals(built.dialect)
    return BitsRecord(
        parameters=parameters,
        requested=min((bits for bits in asked if bits is not None), default=FLOAT_BITS),
        achieved=round(8 * stored / parameters, 3) if parameters else 0.0,
        quantized=round(bits / weights, 3) if weights else 0.0,
        quantized_share=round(weights / parameters, 4) if parameters else 0.0,
    )
