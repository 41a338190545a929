"""Export a local Transformers checkpoint to ONNX through ``transformers.exporters``, and prove the result.

The graph has dynamic batch and sequence axes, readable names, and is compared with torch in ONNX Runtime on a batch
and a length that the exporter has not seen. Nothing is written until that comparison has passed.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import OptionError, OutputError, UnsupportedError, VerificationError
from qcompiler.models.export_checkpoint import check_directory, load_checkpoint, require_extra
from qcompiler.models.export_inputs import Axes, dynamic_axes, image_size, input_names, longest, sample_inputs
from qcompiler.models.graph_names import tidy
from qcompiler.models.quiet import offline_and_quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Array = npt.NDArray[np.generic]

OPSETS = range(18, 24)
"""Opsets that the torch exporter writes; it refuses lower ones since RMSNorm and LayerNorm need 17 and Split 18."""
EXTERNAL_DATA_BYTES = 100 * 1024 * 1024
TOLERANCE = 1e-3
"""Largest accepted error relative to the largest output: float32 rounding through some hundred layers stays below."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported and how well it agrees with torch.

    Attributes:
        model: the ``.onnx`` file; ``data`` its external weights, None when they are inside.
        architecture: the Transformers class.
        inputs, outputs: names and shapes, dynamic axes by name.
        max_abs_error: over all outputs, ONNX Runtime against torch, float32.
        verified_shape: batch and length (or batch and height) of that comparison.
        size_bytes: of both files.
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


def export_transformers(
    directory: str | Path,
    output: str | Path,
    *,
    task: str | None = None,
    opset: int | None = None,
    inputs: Sequence[str] | None = None,
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
    _check_options(opset, output)
    check_directory(directory)
    with offline_and_quiet():
        require_extra()
        model = load_checkpoint(directory, task, attention=attention)
        names = input_names(model, inputs)
        size = image_size(model, directory) if "pixel_values" in names else (0, 0)
        length = min(24, longest(model))
        example = sample_inputs(model, names, image_size=size, batch=2, length=length, seed=0)
        axes = dynamic_axes(names)
        program = _trace(model, example, axes, opset=opset, fusions=fusions)
        tidy(program, axes)
        other = sample_inputs(model, names, image_size=size, batch=3, length=min(37, longest(model)), seed=1)
        expected = _reference(model, other, [value.name or "" for value in program.graph.outputs])
    error, files = _write(program, output, other, expected, tolerance=tolerance)
    shape = next(iter(other.values())).shape
    return ExportReport(
        model=output,
        data=files[1] if len(files) > 1 else None,
        architecture=type(model).__name__,
        opset=program.opset_imports[""],
        inputs={value.name or "": _dims(value) for value in program.graph.inputs},
        outputs={value.name or "": _dims(value) for value in program.graph.outputs},
        max_abs_error=error,
        verified_shape=(shape[0], shape[-1]),
        size_bytes=sum(path.stat().st_size for path in files),
    )


def _check_options(opset: int | None, output: Path) -> None:
    if opset is not None and opset not in OPSETS:
        raise OptionError(
            f"opset {opset} cannot be exported; choose one from {OPSETS.start} to {OPSETS.stop - 1}."
        )
    if output.suffix != ".onnx":
        raise OptionError(f"{output}: the output must end in .onnx.")
    if output.is_dir() or not output.parent.is_dir():
        raise OutputError(f"{output}: not a file in an existing directory; create {output.parent} first.")


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


def _reference(
    model: PreTrainedModel, feeds: dict[str, torch.Tensor], names: Sequence[str]
) -> dict[str, Array]:
    """Torch's own outputs by the graph's output names."""
    import torch
    from transformers.exporters.utils import get_leaf_tensors

    with torch.no_grad():
        leaves = get_leaf_tensors(model(**feeds))
    missing = [name for name in names if name not in leaves]
    if missing:
        raise UnsupportedError(
            f"{type(model).__name__}: torch gives no output {missing[0]!r} to compare with."
        )
    return {name: leaves[name].numpy() for name in names}


def _write(
    program: ir.Model,
    output: Path,
    feeds: dict[str, torch.Tensor],
    expected: dict[str, Array],
    *,
    tolerance: float,
) -> tuple[float, list[Path]]:
    """Save beside ``output``, verify what was saved, then rename; returns the error and the files, model first."""
    weights = sum(
        value.const_value.nbytes for value in program.graph.initializers.values() if value.const_value
    )
    external = f"{output.name}.data" if weights > EXTERNAL_DATA_BYTES else None
    try:
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
            written = Path(folder) / output.name
            ir.save(program, written, external_data=external)
            error = _verify(
                written, {name: value.numpy() for name, value in feeds.items()}, expected, tolerance
            )
            names = [output.name, *([external] if external else [])]
            for name in reversed(names):  # the model last: it never refers to data that is not there
                os.replace(Path(folder) / name, output.parent / name)
    except OSError as problem:
        raise OutputError(
            f"{output}: cannot be written ({problem}); free space or choose another path."
        ) from problem
    return error, [output.parent / name for name in names]


def _verify(path: Path, feeds: dict[str, Array], expected: dict[str, Array], tolerance: float) -> float:
    """Largest absolute error of ONNX Runtime against ``expected``; ``VerificationError`` when it is too large."""
    import onnxruntime as ort

    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    taken = {value.name for value in session.get_inputs()}
    outputs = session.run(list(expected), {name: array for name, array in feeds.items() if name in taken})
    largest = 0.0
    for (name, reference), actual in zip(expected.items(), outputs, strict=True):
        if actual.shape != reference.shape:
            raise VerificationError(
                f"exported output {name!r} has shape {actual.shape}, torch gives {reference.shape}; nothing written."
            )
        error = float(np.max(np.abs(actual.astype(np.float64) - reference), initial=0.0))
        limit = tolerance * max(1.0, float(np.max(np.abs(reference), initial=0.0)))
        if not error <= limit:
            raise VerificationError(
                f"exported output {name!r} differs from torch by {error:.3g}, accepted is {limit:.3g}; nothing "
                "written. Try another opset or no fusions."
            )
        largest = max(largest, error)
    return largest


def _dims(value: ir.Value) -> tuple[int | str, ...]:
    return tuple(dim if isinstance(dim, int) else str(dim.value or "?") for dim in value.shape or ())
