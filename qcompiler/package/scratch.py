"""Folders for what is not finished yet, beside where it will go; what a killed process left is removed by the next."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = ".qcompiler-"

_TRIES = 100
"""Of making a folder that another process removes before it is locked."""


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A new folder in ``parent``, which exists; gone afterwards whatever happens.

    It is locked as long as the process lives, which is how the next one tells what a killed one has left.

    Raises:
        OSError: it cannot be made.
    """
    remove_abandoned(parent)
    folder, handle = _made(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if handle is not None:
            os.close(handle)


def remove_abandoned(parent: Path) -> None:
    """Remove folders of processes that are no more; those in use, and somebody else's, stay."""
    for folder in parent.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            handle = _locked(folder)
            if handle is not None:
                try:
                    shutil.rmtree(folder)
                finally:
                    os.close(handle)


def _made(parent: Path) -> tuple[Path, int | None]:
    """A folder and its lock; None where there are no locks.

    Between making and locking, another process may take it for abandoned, and remove it: then it is made again.
    """
    for _ in range(_TRIES):
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        try:
            handle = _locked(folder)
        except (BlockingIOError, FileNotFoundError):
            continue
        except OSError:  # no locks on this file system, where nobody removes it either
            return folder, None
        if folder.exists():
            return folder, handle
        if handle is not None:
            os.close(handle)
    raise OSError(f"folders that are made in {parent} vanish")


def _locked(folder: Path) -> int | None:
    """A handle that holds a lock on ``folder``; None where this system has none.

    Raises:
        OSError: another process holds it, it is no folder, or its file system has no locks.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle
