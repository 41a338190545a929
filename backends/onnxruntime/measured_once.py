"""Figures measured on this machine, kept in a file: the same command then gives the same bytes.

They lie in ``$XDG_CACHE_HOME/qcompiler`` (``~/.cache/qcompiler``), one file for each figure, processor and version of
ONNX Runtime; deleting the folder has everything measured again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import platform
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

logger = logging.getLogger(__name__)


def measured_once(name: str, measure: Callable[[], int], cpuinfo: Path = Path("/proc/cpuinfo")) -> int:
    """The figure of that name, measured only where no file has it; the first of two at the same time wins."""
    path = _folder() / f"{name}-{machine_key(cpuinfo)}"
    known = _read(path)
    if known is not None:
        return known
    found = measure()
    try:
        _publish(path, found)
    except OSError as error:
        logger.warning("cannot keep %s in %s (%s): it is measured anew every time", name, path.parent, error)
    known = _read(path)
    return found if known is None else known


def machine_key(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """A digest of the processor's model and features, the number of cores, and the version of ONNX Runtime."""
    facts = [platform.machine(), platform.processor(), str(os.cpu_count()), version("onnxruntime")]
    if cpuinfo.exists():
        lines = cpuinfo.read_text("utf-8", errors="replace").splitlines()
        kept = ("model name", "flags", "Features", "CPU part", "cache size")
        facts += sorted({line for line in lines if line.startswith(kept)})
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base else Path.home() / ".cache") / "qcompiler"


def _read(path: Path) -> int | None:
    try:
        return int(path.read_text("ascii"))
    except (OSError, ValueError):
        return None


def _publish(path: Path, figure: int) -> None:
    """Give ``path`` its content at once, unless another process already has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="ascii", dir=path.parent, prefix=f".{path.name}.") as file:
        file.write(f"{figure}\n")
        file.flush()
        if _read(path) is None:
            path.unlink(missing_ok=True)  # what cannot be read is worth nothing
        with contextlib.suppress(FileExistsError):
            os.link(file.name, path)
