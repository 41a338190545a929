"""Compiled models that are no ONNX file but an index and the files it names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from qcompiler.errors import ModelError

SUFFIX = ".tvm"


def is_deployed(model: Path | str | bytes) -> bool:
    """Whether this is the index of such a model."""
    return not isinstance(model, bytes) and Path(model).suffix == SUFFIX


def models_in(folder: Path) -> list[Path]:
    """Files in a folder that are models: graphs and indices."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".onnx", SUFFIX))


def model_in(path: Path) -> Path:
    """``path``, or the one model in the folder that it is.

    Raises:
        ModelError: there is none, or several.
    """
    if not path.is_dir():
        return path
    found = models_in(path)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise ModelError(f"{path} must hold one model, found {names}; give the path of a file.")
    return found[0]


def deployed_files(model: Path) -> list[str]:
    """Names of the files that an index names; none for other files.

    Raises:
        ModelError: the index is damaged.
    """
    return list(_index(model)["files"]) if is_deployed(model) else []


def interface(model: Path) -> ir.Model:
    """A model with the inputs and outputs of a compiled one, and nothing between them.

    Raises:
        ModelError: the index is damaged.
    """
    index = _index(model)
    inputs, outputs = ([_value(item) for item in index[kind]] for kind in ("inputs", "outputs"))
    return ir.Model(
        ir.Graph(inputs, outputs, nodes=[], opset_imports={"": 21}, name=model.stem), ir_version=10
    )


def _value(item: Mapping[str, Any]) -> ir.Value:
    dtype = ir.DataType.from_numpy(np.dtype(item["dtype"]))
    return ir.Value(name=item["name"], type=ir.TensorType(dtype), shape=ir.Shape(item["shape"]))


def _index(model: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(model.read_text(encoding="utf-8"))
        found["files"], found["inputs"], found["outputs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{model} is no index of a compiled model ({error}); compile the model again."
        ) from error
    return found
