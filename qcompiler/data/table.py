"""Random access to records: the one shape that every kind of data is brought into.

A *stacked* table holds samples, which are batched along a new or existing first axis.  Otherwise every record is a
whole feed, taken as it is, so that records may differ in shape.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from qcompiler.data.feeds import Array
from qcompiler.data.reason import first_line
from qcompiler.errors import CalibrationError

Record = Mapping[str, object]


class Table(Protocol):
    """Records by their number; reading one never changes the table."""

    @property
    def stacked(self) -> bool:
        """Whether records are samples to be batched."""

    def __len__(self) -> int: ...

    def read(self, rows: Sequence[int]) -> Record:
        """Return the values of these records by name; a table that is not stacked is asked for one."""

    def label(self, row: int) -> str:
        """Say where a record comes from, for messages."""


@dataclass(frozen=True)
class FeedTable:
    """Every record is one feed."""

    records: Sequence[Record]
    name: Callable[[int], str]
    stacked: bool = False

    def __len__(self) -> int:
        return len(self.records)

    def read(self, rows: Sequence[int]) -> Record:
        record = self.records[rows[0]]
        if not isinstance(record, Mapping):
            raise CalibrationError(
                f"{self.label(rows[0])} is a {type(record).__name__}, expected a mapping from input names to arrays."
            )
        return record

    def label(self, row: int) -> str:
        return self.name(row)


@dataclass(frozen=True)
class SampleTable:
    """Every record is one sample without a batch axis."""

    records: Sequence[Record]
    name: Callable[[int], str]
    stacked: bool = True

    def __len__(self) -> int:
        return len(self.records)

    def read(self, rows: Sequence[int]) -> Record:
        return _Stack([self.records[row] for row in rows], [self.label(row) for row in rows])

    def label(self, row: int) -> str:
        return self.name(row)


class _Stack(Mapping[str, Array]):
    """Samples stacked input by input, when asked for: what the model does not need may be ragged."""

    def __init__(self, samples: Sequence[Record], labels: Sequence[str]) -> None:
        self._samples = samples
        self._labels = labels

    def __iter__(self) -> Iterator[str]:
        return iter(self._samples[0])

    def __len__(self) -> int:
        return len(self._samples[0])

    def __getitem__(self, name: str) -> Array:
        arrays = [self._array(index, name) for index in range(len(self._samples))]
        for label, array in zip(self._labels, arrays, strict=True):
            if array.shape != arrays[0].shape:
                raise CalibrationError(
                    f"{name!r} has shape {list(array.shape)} in {label} "
                    f"but {list(arrays[0].shape)} in {self._labels[0]}. "
                    "Pad them, or use --calib-batch 1."
                )
        return np.stack(arrays)

    def _array(self, index: int, name: str) -> Array:
        if name not in self._samples[index]:
            raise CalibrationError(
                f"{self._labels[index]} has no {name!r}, which {self._labels[0]} has. Add it."
            )
        try:
            return np.asarray(self._samples[index][name])
        except (ValueError, TypeError, RuntimeError) as error:
            reason = first_line(error)
            raise CalibrationError(
                f"{self._labels[index]}: {name!r} is not one array ({reason}). Make it one."
            ) from error
