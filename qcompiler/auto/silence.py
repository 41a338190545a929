"""Keeping what a native library prints out of the program's own output."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def silent_library() -> Iterator[None]:
    """HiGHS prints lines of its own to the process's stdout, whatever it is told, where JSON may be asked for."""
    with contextlib.suppress(OSError, ValueError):  # no stdout, or one without a buffer
        sys.stdout.flush()
    try:
        kept = os.dup(1)
    except OSError:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(nowhere)
        os.close(kept)
