"""Folders for what is not finished yet, beside where it will go; what a killed process left is removed by the next."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".qcompiler-"

FRESH_SECONDS = 60.0
"""A younger folder may belong to a process that has not locked it yet."""


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent``, which exists; gone afterwards whatever happens.

    It is locked as long as the process lives, which is how the next one tells what a killed one has left.

    Raises:
        OSError: it cannot be made.
    """
    _remove_abandoned(parent)
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_abandoned(parent: Path) -> None:
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # it is in use, somebody else's, or gone by now
            if folder.is_dir() and time.time() - folder.stat().st_mtime > FRESH_SECONDS:
                with _locked(folder, required=True):
                    shutil.rmtree(folder)


@contextlib.contextmanager
def _locked(folder: Path, *, required: bool = False) -> Iterator[None]:
    """Hold a lock on ``folder``; where there are none, go on without unless ``required``.

    Raises:
        OSError: another process holds it, or there are no locks and one is required.
    """
    if sys.platform == "win32":
        if required:
            raise OSError("no locks on folders")
        yield
        return
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if required:
                raise
        yield
    finally:
        os.close(handle)
