"""Files that a reader sees whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_synced(path: Path, content: bytes | memoryview) -> None:
    """Write a file so that a reader sees all of it or none, even after a power cut."""
    scratch = path.with_name(f"{path.name}.tmp")
    with scratch.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    scratch.replace(path)
