"""One compile at a time in a work folder: another would discard, or mix with, what the first has solved."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from pathlib import Path
from typing import IO

from qcompiler.errors import OutputError

LOCK_FILE = "lock"


def hold(folder: Path) -> contextlib.AbstractContextManager[object]:
    """Hold ``folder``, which exists, until the context ends or the process does, however it ends.

    Where the system or the file system has no such locks, nothing is held.

    Raises:
        OutputError: another process, or another compile of this one, holds it.
        OSError: the lock cannot be written.
    """
    if sys.platform == "win32":
        return contextlib.nullcontext()
    stream = (folder / LOCK_FILE).open("a+")
    try:
        _lock(stream, folder)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
    except BaseException:
        stream.close()
        raise
    return stream


def _lock(stream: IO[str], folder: Path) -> None:
    import fcntl

    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _still_running(folder, stream) from error
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            raise
    path = folder / LOCK_FILE
    if not path.exists() or path.stat().st_ino != os.fstat(stream.fileno()).st_ino:
        raise _still_running(folder, stream)  # it ended just now, and took the folder with it


def _still_running(folder: Path, stream: IO[str]) -> OutputError:
    stream.seek(0)
    owner = stream.read().strip()
    who = f" (process {owner})" if owner else ""
    return OutputError(
        f"{folder} belongs to another compile that still runs{who}: wait for it, or choose another place with -o."
    )
