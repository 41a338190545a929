"""Samples from a .safetensors file; needs the ``safetensors`` package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qcompiler.data.arrays import open_columns
from qcompiler.data.feeds import Array, InputSpec
from qcompiler.data.hashing import hash_file
from qcompiler.data.kinds import ARRAYS
from qcompiler.data.npy import runs
from qcompiler.data.optional import load_package
from qcompiler.data.options import DataOptions
from qcompiler.data.reason import first_line
from qcompiler.data.source import Feeds
from qcompiler.errors import CalibrationError


def open_safetensors(path: Path, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """Feeds of a .safetensors with one tensor per model input, first axis samples."""
    with _open(path) as file:
        columns = {
            name: TensorRows(path, name, tuple(file.get_slice(name).get_shape()))
            for name in list(file.keys())
        }
    return open_columns(columns, inputs, options, ARRAYS, origin=str(path), hash_content=hash_file(path))


@dataclass(frozen=True)
class TensorRows:
    """One tensor; the file is opened per read, because it is mapped and mapped pages would stay resident."""

    path: Path
    name: str
    shape: tuple[int, ...]

    def read(self, rows: Sequence[int]) -> Array:
        with _open(self.path) as file:
            if not self.shape:
                return np.asarray(file.get_tensor(self.name)).reshape(1)
            tensor = file.get_slice(self.name)
            return np.concatenate([tensor[first : first + count] for _, first, count in runs(rows)])


def _open(path: Path) -> Any:
    package = load_package("safetensors", purpose=f"to read {path}")
    try:
        return package.safe_open(path, framework="numpy")
    except (package.SafetensorError, OSError) as error:
        reason = first_line(error)
        raise CalibrationError(f"cannot read {path} as safetensors ({reason}). Save it again.") from error
