"""Data made of arrays whose first axis is samples: .npz, .npy, .safetensors, a dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from qcompiler.data.feeds import Array, InputSpec
from qcompiler.data.hashing import HashContent, hash_file, hash_records
from qcompiler.data.kinds import ARRAYS, ONE_ARRAY, Kind
from qcompiler.data.npy import open_npy
from qcompiler.data.npz import open_npz
from qcompiler.data.options import DataOptions
from qcompiler.data.source import Feeds, make_feeds
from qcompiler.data.validation import as_array
from qcompiler.errors import CalibrationError


class Column(Protocol):
    """One array, read by rows of its first axis; a 0-d array counts as one row."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self, rows: Sequence[int]) -> Array: ...


@dataclass(frozen=True)
class MemoryColumn:
    """An array the user holds in memory, or has mapped."""

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def read(self, rows: Sequence[int]) -> Array:
        return np.asarray(np.atleast_1d(self.array)[np.asarray(rows)])


@dataclass(frozen=True)
class ArrayTable:
    """Samples along the first axis of several columns.

    Columns in ``constant`` are 0-d and given whole to every feed (a sampling rate, a temperature).
    """

    columns: Mapping[str, Column]
    count: int
    constant: frozenset[str]
    origin: str
    stacked: bool = True

    def __len__(self) -> int:
        return self.count

    def read(self, rows: Sequence[int]) -> Mapping[str, object]:
        return _Rows(self, rows)

    def label(self, row: int) -> str:
        return f"sample {row} of {self.origin}"


class _Rows(Mapping[str, Array]):
    """Some rows of every column, read when asked for: arrays the model does not need stay on disk."""

    def __init__(self, table: ArrayTable, rows: Sequence[int]) -> None:
        self._table = table
        self._rows = rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._table.columns)

    def __len__(self) -> int:
        return len(self._table.columns)

    def __getitem__(self, name: str) -> Array:
        column = self._table.columns[name]
        if name in self._table.constant:
            return column.read((0,)).reshape(())
        return column.read(self._rows)


def open_npz_samples(path: Path, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """Feeds of a .npz with one array per model input."""
    return open_columns(
        open_npz(path), inputs, options, ARRAYS, origin=str(path), hash_content=hash_file(path)
    )


def open_npy_samples(path: Path, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """Feeds of a .npy, for a model with one input."""
    name = only_input(inputs, str(path))
    columns = {name: open_npy(path)}
    return open_columns(columns, inputs, options, ONE_ARRAY, origin=str(path), hash_content=hash_file(path))


def open_array(array: Array, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """Feeds of one array in memory, for a model with one input."""
    name = only_input(inputs, "the data")
    columns, hashed = {name: MemoryColumn(array)}, hash_records([{name: array}])
    return open_columns(columns, inputs, options, ONE_ARRAY, origin="an array", hash_content=hashed)


def open_dict(arrays: Mapping[str, object], inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """Feeds of arrays in memory by input name."""
    specs = {options.columns.get(spec.name, spec.name): spec for spec in inputs}
    held = {
        name: as_array(value, specs[name], "the dict of arrays") if name in specs else np.asarray(value)
        for name, value in arrays.items()
    }
    columns = {name: MemoryColumn(array) for name, array in held.items()}
    hashed = hash_records([held])
    return open_columns(columns, inputs, options, ARRAYS, origin="a dict of arrays", hash_content=hashed)


def open_columns(
    columns: Mapping[str, Column],
    inputs: Sequence[InputSpec],
    options: DataOptions,
    kind: Kind,
    *,
    origin: str,
    hash_content: HashContent,
) -> Feeds:
    """Feeds of columns that agree in their number of samples.

    Raises:
        CalibrationError: unequal numbers of samples; or see :func:`make_feeds`.
    """
    renamed = options.columns if "columns" in kind.reads else {}
    names = [renamed.get(spec.name, spec.name) for spec in inputs]
    present = {name: columns[name].shape for name in names if name in columns}
    constant = frozenset(name for name, shape in present.items() if not shape)
    counts = {name: shape[0] for name, shape in present.items() if shape}
    if len(set(counts.values())) > 1:
        seen = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise CalibrationError(
            f"{origin}: arrays differ in their number of samples ({seen}). Give every array one row per sample, "
            "or a folder of .npz files with one whole feed each."
        )
    if present and not counts:
        raise CalibrationError(f"{origin}: no array has a sample axis. Give a folder of .npz, a feed each.")
    count = next(iter(counts.values()), 1)  # without any known name, the first feed's check reports the names
    table = ArrayTable(columns, count, constant, origin)
    return make_feeds(table, inputs, options, kind, description=origin, hash_content=hash_content)


def only_input(inputs: Sequence[InputSpec], origin: str) -> str:
    """Return the name that a nameless array stands for.

    Raises:
        CalibrationError: the model has several inputs.
    """
    if len(inputs) != 1:
        names = ", ".join(spec.name for spec in inputs)
        raise CalibrationError(
            f"{origin} is one array, but the model has {len(inputs)} inputs ({names}). Give a .npz."
        )
    return inputs[0].name
