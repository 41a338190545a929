"""Compare an exported model with the torch model it came from, in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from qcompiler.errors import UnsupportedError, VerificationError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

Array = npt.NDArray[np.generic]

TOLERANCE = 1e-3
"""Largest accepted error relative to the largest output: float32 rounding through some hundred layers stays below."""


def reference(
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


def largest_error(feeds: dict[str, Array], expected: dict[str, Array], tolerance: float, path: Path) -> float:
    """Largest absolute error of ONNX Runtime against ``expected``; ``VerificationError`` when it is too large."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4  # what fails is told once, by the error below
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        outputs = session.run(list(expected), feeds)
    except Exception as problem:  # ONNX Runtime's errors share no base class
        reason = str(problem).splitlines()[0][:300]
        raise VerificationError(f"the exported model does not run: {reason}; try another opset.") from problem
    return max(
        _error(name, actual, wanted, tolerance)
        for (name, wanted), actual in zip(expected.items(), outputs, strict=True)
    )


def _error(name: str, actual: Array, wanted: Array, tolerance: float) -> float:
    """Largest absolute difference of one output; not a number counts as too large."""
    if actual.shape != wanted.shape:
        raise VerificationError(
            f"exported output {name!r} has shape {actual.shape}, torch gives {wanted.shape}; nothing written. Try "
            "another task."
        )
    error = float(np.max(np.abs(actual.astype(np.float64) - wanted.astype(np.float64)), initial=0.0))
    limit = tolerance * max(1.0, float(np.max(np.abs(wanted), initial=0.0)))
    if not error <= limit:
        raise VerificationError(
            f"exported output {name!r} differs from torch by {error:.3g}, accepted is {limit:.3g}; nothing written. "
            "Try another opset or no fusions."
        )
    return error
