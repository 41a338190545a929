"""Compiled models that are no ONNX file but an index and the files it names."""

from __future__ import annotations

import json
from pathlib import Path

from qcompiler.errors import ModelError

SUFFIX = ".tvm"


def is_deployed(model: Path | str | bytes) -> bool:
    """Whether this is the index of such a model."""
    return not isinstance(model, bytes) and Path(model).suffix == SUFFIX


def deployed_files(model: Path) -> list[str]:
    """Names of the files that an index names; none for other files.

    Raises:
        ModelError: the index is damaged.
    """
    if not is_deployed(model):
        return []
    try:
        return list(json.loads(model.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{model} is no index of a compiled model ({error}); compile the model again."
        ) from error
