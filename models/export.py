"""Export a local Transformers checkpoint to ONNX through ``transformers.exporters``, and prove the result.

The graph has dynamic batch and sequence axes, readable names, and is compared with torch in ONNX Runtime on a batch
and a length that the exporter has not seen. Nothing is written until that comparison has passed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import onnx_ir as ir

from qcompiler.errors import OptionError, OutputError, UnsupportedError
from qcompiler.models.export_check import TOLERANCE, largest_error, reference
from qcompiler.models.export_checkpoint import check_directory, load_checkpoint, require_extra
from qcompiler.models.export_inputs import Axes, dynamic_axes, image_size, input_names, longest, sample_inputs
from qcompiler.models.graph_names import tidy
from qcompiler.models.quiet import offline_and_quiet
from qcompiler.package.write import publish, staged, write_model

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

OPSETS = range(18, 24)
"""Opsets that the torch exporter writes; it refuses lower ones since RMSNorm and LayerNorm need 17 and Split 18."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported and how well it agrees with torch.

    Attributes:
        model: the ``.onnx`` file; ``data`` its external weights, None when they are inside.
        architecture: the Transformers class.
        inputs, outputs: names and shapes, dynamic axes by name.
        max_abs_error: over all outputs, ONNX Runtime against torch, float32.
        verified_shape: batch and length (or batch and width) of that comparison.
        size_bytes: of both files.
        notes: what the export leaves out, and why.
    """

    model: Path
    data: Path | None
    architecture: str
    opset: int
    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    max_abs_error: float
    verified_shape: tuple[int, int]
    size_bytes: int
    notes: tuple[str, ...] = ()


def export_transformers(
    directory: str | Path,
    output: str | Path,
    *,
    task: str | None = None,
    opset: int | None = None,
    inputs: Sequence[str] | None = None,
    picture: tuple[int, int] | None = None,
    attention: Literal["sdpa", "eager"] | None = None,
    fusions: Literal["cpu"] | None = None,
    tolerance: float = TOLERANCE,
) -> ExportReport:
    """Export the checkpoint in ``directory`` to ``output`` (``.onnx``); never touches the network.

    Args:
        task: a key of ``export_checkpoint.TASKS``; None takes the architecture that ``config.json`` names.
        opset: 18 to 23; None takes the exporter's default.
        inputs: which inputs of the model the graph gets, e.g. ``["input_ids"]`` to drop the mask; None takes all
            that a processor would feed.
        picture: height and width in pixels; None takes what the checkpoint's processor or configuration states.
        attention: how Transformers computes attention while it is traced; ``"eager"`` gives the plainest graph (no
            guard for rows that a mask hides completely), None what Transformers prefers, mostly ``"sdpa"``.
        fusions: ``"cpu"`` fuses into ONNX Runtime's own ops; None writes standard ONNX.
        tolerance: largest error accepted against torch, relative to the largest output (at least 1).

    Raises:
        InputError, ModelError: the directory is not a usable checkpoint.
        OptionError: an impossible argument.
        UnsupportedError: no torch or transformers, or a model that cannot be exported.
        VerificationError: ONNX Runtime and torch disagree; nothing is written.
        OutputError: ``output`` cannot be written.
    """
    directory, output = Path(directory), Path(output)
    check_options(opset, output)
    check_directory(directory)
    with offline_and_quiet():
        require_extra()
        model = load_checkpoint(directory, task, attention=attention)
        names = input_names(model, inputs)
        if picture and "pixel_values" not in names:
            raise OptionError(f"{directory}: --image-size is for models of pictures; leave it out.")
        size = (picture or image_size(model, directory)) if "pixel_values" in names else (0, 0)
        length = min(37, longest(model))
        example = sample_inputs(model, names, image_size=size, batch=2, length=length // 2, seed=0)
        axes = dynamic_axes(names)
        program = _trace(model, example, axes, opset=opset, fusions=fusions)
        tidy(program, axes)
        other = sample_inputs(model, names, image_size=size, batch=3, length=length, seed=1)
        expected = reference(model, other, [value.name or "" for value in program.graph.outputs])
    feeds = {name: tensor.numpy() for name, tensor in other.items()}
    error, files = _save(program, output, partial(largest_error, feeds, expected, tolerance))
    shape = next(iter(feeds.values())).shape
    return _report(program, type(model).__name__, files, error, (shape[0], shape[-1]))


def _report(
    program: ir.Model, architecture: str, files: Sequence[Path], error: float, shape: tuple[int, int]
) -> ExportReport:
    return ExportReport(
        model=files[0],
        data=files[1] if len(files) > 1 else None,
        architecture=architecture,
        opset=program.opset_imports[""],
        inputs={value.name or "": _dims(value) for value in program.graph.inputs},
        outputs={value.name or "": _dims(value) for value in program.graph.outputs},
        max_abs_error=error,
        verified_shape=shape,
        size_bytes=sum(path.stat().st_size for path in files),
    )


def check_options(opset: int | None, output: Path) -> None:
    """``OptionError`` for an opset that cannot be exported; ``OutputError`` where ``output`` cannot be written."""
    if opset is not None and opset not in OPSETS:
        raise OptionError(
            f"opset {opset} cannot be exported; choose one from {OPSETS.start} to {OPSETS.stop - 1}."
        )
    if output.suffix != ".onnx":
        raise OptionError(f"{output}: the output must end in .onnx.")
    if output.is_dir():
        raise OutputError(f"{output} is a folder, expected a file; choose another place with -o.")
    above = next(place for place in output.absolute().parents if place.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise OutputError(f"{output} cannot be written: {above} is no folder that can be written to.")


def _trace(
    model: PreTrainedModel,
    example: dict[str, torch.Tensor],
    axes: Axes,
    *,
    opset: int | None,
    fusions: Literal["cpu"] | None,
) -> ir.Model:
    """The checkpoint as an ``ir.Model``: the plain forward pass, without a cache among its inputs and outputs.

    A decoder that gets no mask is traced with its cache on, which is then dropped: without either, Transformers
    looks for packed sequences in every forward pass.
    """
    import torch

    exporters: Any = import_module("transformers.exporters.exporter_onnx")
    free = {name: dict.fromkeys(named, torch.export.Dim.DYNAMIC) for name, named in axes.items()}
    config = exporters.OnnxConfig(dynamic=True, dynamic_shapes=free, opset_version=opset, ort_fusions=fusions)
    caches = hasattr(model.config.get_text_config(), "use_cache")
    flags = {"use_cache": "attention_mask" not in example} if caches else {}
    try:
        program: ir.Model = (
            exporters.OnnxExporter().export(model, {**example, **flags}, config=config).program
        )
    except Exception as error:  # torch.export raises whatever the model's own Python raises
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise UnsupportedError(
            f"{type(model).__name__} cannot be exported by transformers.exporters: {reason}; try another task, other "
            "inputs, or a newer transformers."
        ) from error
    if opset is not None and program.opset_imports[""] != opset:
        raise UnsupportedError(
            f"opset {opset} was asked for, the exporter wrote {program.opset_imports['']}."
        )
    _drop_cache(program)
    return program


def _drop_cache(program: ir.Model) -> None:
    """Remove the cache from the graph's outputs, and what only served it."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    for value in list(program.graph.outputs):
        if (value.name or "").startswith("past_key_values"):
            program.graph.outputs.remove(value)
    RemoveUnusedNodesPass()(program)


def _save(program: ir.Model, output: Path, check: Callable[[Path], float]) -> tuple[float, list[Path]]:
    """Save beside ``output``, check what was saved, then rename; returns the error and the files, model first."""
    with staged(output.parent) as stage:
        write_model(program, stage / output.name)
        error = check(stage / output.name)
        names = sorted(path.name for path in stage.iterdir())
        publish(stage, output.parent)
    return error, [output.parent / name for name in names]


def _dims(value: ir.Value) -> tuple[int | str, ...]:
    return tuple(dim if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape or ())
