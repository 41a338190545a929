"""Temporary files for data that can be read only once or not from the middle; deleted with the last reference."""

from __future__ import annotations

import logging
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, overload

import numpy as np

from qcompiler.data.feeds import Array
from qcompiler.errors import CalibrationError

logger = logging.getLogger(__name__)

_FREE_SHARE = 0.5
"""Share of the free disk space that a spool may take: an endless stream must not fill the disk."""


class Spool:
    """A temporary folder with a budget; it lives as long as the object, and no longer than the process."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="qcompiler-", ignore_cleanup_errors=True)
        self.path = Path(self._folder.name)
        self._left_bytes = int(shutil.disk_usage(self.path).free * _FREE_SHARE)

    def charge(self, size_bytes: int) -> None:
        """Count bytes about to be written.

        Raises:
            CalibrationError: they exceed the budget.
        """
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise CalibrationError(
                f"the data needs more than half of the free space of {self.path.parent}. "
                "Limit it with --calib-samples, or point TMPDIR to a larger disk."
            )

    def copy(self, source: IO[bytes], name: str) -> Path:
        """Write all of ``source`` to a file, a block at a time.

        Raises:
            CalibrationError: the budget is exceeded, or the disk is full.
        """
        target = self.path / name
        with target.open("wb", buffering=0) as file:
            while block := source.read(1 << 20):
                self.charge(len(block))
                _write_block(file, block)
        return target


class SpooledRecords(Sequence[dict[str, Array]]):
    """Records written to disk as they come, one .npz each, and read back one at a time."""

    def __init__(self, records: Iterable[dict[str, Array]]) -> None:
        self._spool = Spool()
        self._count = 0
        for record in records:
            self._spool.charge(sum(array.nbytes for array in record.values()))
            _write(self._path(self._count), record)
            self._count += 1
        logger.info("%d records of a stream kept in %s until the end", self._count, self._spool.path)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> dict[str, Array]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Array]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Array] | list[dict[str, Array]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        with np.load(self._path(range(self._count)[index]), allow_pickle=False) as archive:
            return dict(archive)

    def _path(self, index: int) -> Path:
        return self._spool.path / f"{index:08d}.npz"


def _write_block(file: IO[bytes], block: bytes) -> None:
    """Kept apart from reading, whose failures are the data's fault."""
    left = memoryview(block)
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        raise CalibrationError(
            f"the data cannot be unpacked to {tempfile.gettempdir()}: {error.strerror}. "
            "Limit it with --calib-samples, or point TMPDIR to a larger disk."
        ) from error


def _write(path: Path, record: dict[str, Array]) -> None:
    """Write members one by one: numpy.savez cannot take an array named ``file``."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in record.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                plain = array.astype(str) if array.dtype == object else array  # strings, checked before
                np.lib.format.write_array(member, plain, allow_pickle=False)
