"""Content hashes of data, for the manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from qcompiler.errors import CalibrationError

HashContent = Callable[[], str | None]


def hash_file(path: Path) -> HashContent:
    """Return a function giving the SHA-256 of a file, as ``sha256sum`` shows it."""
    return cache(lambda: _file_digest(path))


def hash_files(paths: Sequence[Path], root: Path) -> HashContent:
    """Return a function giving one SHA-256 over the names relative to ``root`` and contents of files."""

    def compute() -> str:
        digest = hashlib.sha256()
        for path in paths:
            digest.update(f"{path.relative_to(root).as_posix()}\0{_file_digest(path)}\n".encode())
        return digest.hexdigest()

    return cache(compute)


def hash_records(records: Iterable[Mapping[str, object]]) -> HashContent:
    """Return a function giving one SHA-256 over names, dtypes, shapes and bytes of records."""

    def compute() -> str:
        digest = hashlib.sha256()
        for record in records:
            for name in sorted(record):
                array = np.asarray(record[name])
                digest.update(f"{name}\0{array.dtype.str}\0{array.shape}\n".encode())
                rows = np.atleast_1d(array)
                for start in range(0, len(rows), 256):  # an array may be memory-mapped: never copy all of it
                    part = rows[start : start + 256]
                    digest.update(repr(part.tolist()).encode() if part.dtype == object else part.tobytes())
        return digest.hexdigest()

    return cache(compute)


def _file_digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CalibrationError(
            f"cannot read {path}: {error.strerror}. Do not move the data during a compile."
        ) from error
