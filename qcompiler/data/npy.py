"""Rows of a .npy file, or of one stored inside a .npz, read where they lie.

Rows are read with plain file reads rather than through a memory map: mapped pages stay resident, so that memory would
grow with the samples read, and a file cut short meanwhile would kill the process instead of raising.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format

from qcompiler.data.feeds import Array
from qcompiler.data.reason import first_line
from qcompiler.errors import CalibrationError


@dataclass(frozen=True)
class NpyHeader:
    """What a .npy file says of its array; ``offset_bytes`` is where the data starts."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool
    offset_bytes: int

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(file: IO[bytes], label: str) -> NpyHeader:
    """Read the header at the start of ``file``.

    Raises:
        CalibrationError: not a .npy file, or an array of pickled objects.
    """
    try:
        version = npy_format.read_magic(file)
        read = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
        shape, fortran_order, dtype = read(file)
    except (ValueError, EOFError, SyntaxError, UnicodeDecodeError) as error:
        reason = first_line(error)
        raise CalibrationError(
            f"{label} is not a NumPy array file ({reason}). Save it again with numpy.save."
        ) from error
    if dtype.hasobject:
        raise CalibrationError(
            f"{label} holds pickled Python objects, which can run code. Save it as a plain array."
        )
    return NpyHeader(shape, dtype, fortran_order, file.tell())


@dataclass(frozen=True)
class NpyRows:
    """An array of a file; ``base_bytes`` is where its .npy starts in ``path``."""

    path: Path
    header: NpyHeader
    base_bytes: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.header.shape

    def read(self, rows: Sequence[int]) -> Array:
        """Return a copy of ``rows`` of the first axis; a 0-d array counts as one row."""
        shape = self.shape or (1,)
        if self.header.fortran_order and len(shape) > 1:
            return self._read_scattered(rows)
        row_bytes = math.prod(shape[1:]) * self.header.dtype.itemsize
        data = bytearray(len(rows) * row_bytes)
        start = self.base_bytes + self.header.offset_bytes
        with self.path.open("rb") as file:
            for position, first, count in runs(rows):
                file.seek(start + first * row_bytes)
                part = memoryview(data)[position * row_bytes : (position + count) * row_bytes]
                if file.readinto(part) != len(part):
                    raise CalibrationError(f"{self.path} ends in the middle of its data. Save it again.")
        return np.frombuffer(data, self.header.dtype).reshape(len(rows), *shape[1:])

    def _read_scattered(self, rows: Sequence[int]) -> Array:
        """Read rows of a Fortran-ordered array: mapped only for as long as the copy takes."""
        offset = self.base_bytes + self.header.offset_bytes
        mapped = np.memmap(self.path, self.header.dtype, "r", offset, self.shape, "F")
        return np.array(mapped[np.asarray(rows)], order="C")


def open_npy(path: Path) -> NpyRows:
    """Open a .npy file and check that it holds all its data."""
    with path.open("rb") as file:
        header = read_header(file, str(path))
    if path.stat().st_size < header.offset_bytes + header.size_bytes:
        raise CalibrationError(f"{path} ends in the middle of its data. Save it again.")
    return NpyRows(path, header)


def runs(rows: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Group consecutive rows: yield (position in ``rows``, first row, count)."""
    position = 0
    while position < len(rows):
        count = 1
        while position + count < len(rows) and rows[position + count] == rows[position] + count:
            count += 1
        yield position, rows[position], count
        position += count
