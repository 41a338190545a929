"""Load time and resident memory of a model, each measured in a fresh process (Linux)."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompiler.errors import ModelError, UnsupportedError
from qcompiler.measure.sessions import Feed

_STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class MemoryFigures:
    """What one process measured about itself.

    Attributes:
        load_seconds: making the session, with the runtime imported and the file usually in the page cache.
        baseline_bytes: resident memory with the runtime and the feed loaded, before the model.
        loaded_bytes: what loading the model added to it.
        resident_bytes: what loading and one run added, still held after the run.
        peak_bytes: most that was added at any time until then.
    """

    load_seconds: float
    baseline_bytes: int
    loaded_bytes: int
    resident_bytes: int
    peak_bytes: int


def measure_memory(
    model: Path | str, feed: Feed | None = None, *, threads: int = 1, timeout_seconds: float = 600.0
) -> MemoryFigures:
    """Load a model in a new process, run it once if a feed is given, and return what it cost.

    Args:
        model: path of an ONNX file.
        feed: one array per input (numeric, bool or fixed-length string); None only loads the model.
        threads: threads within an operator.
        timeout_seconds: the process is ended after this long.

    Raises:
        UnsupportedError: not on Linux, a feed of Python objects, or the time is over.
        ModelError: the model cannot be loaded or run, or the process was killed (out of memory).
    """
    if not _STATUS.exists():
        raise UnsupportedError(
            f"resident memory is read from {_STATUS}, which only Linux has; measure without memory here."
        )
    with tempfile.TemporaryDirectory(prefix="qcompiler-memory-") as folder:
        # -P keeps the working directory, which may hold a folder called onnx, out of the module path.
        command = [
            sys.executable,
            "-P",
            "-m",
            "qcompiler.measure.probe",
            str(model),
            "--threads",
            str(threads),
        ]
        if feed is not None:
            command += ["--feed", str(_save_feed(feed, Path(folder) / "feed.npz"))]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_seconds
            )
        except subprocess.TimeoutExpired as error:
            raise UnsupportedError(
                f"{model} was not loaded and run within {timeout_seconds:.0f} s; allow more time."
            ) from error
    if done.returncode != 0:
        raise ModelError(_failure(model, done.returncode, done.stderr))
    figures = json.loads(done.stdout)
    load_seconds = float(figures.pop("load_seconds"))
    return MemoryFigures(load_seconds, **{name: int(value) for name, value in figures.items()})


def median_memory(
    model: Path | str, feed: Feed | None = None, *, threads: int = 1, repeats: int = 3
) -> MemoryFigures:
    """Return the median of every figure over several processes."""
    measured = [measure_memory(model, feed, threads=threads) for _ in range(repeats)]
    return MemoryFigures(
        load_seconds=float(np.median([one.load_seconds for one in measured])),
        baseline_bytes=int(np.median([one.baseline_bytes for one in measured])),
        loaded_bytes=int(np.median([one.loaded_bytes for one in measured])),
        resident_bytes=int(np.median([one.resident_bytes for one in measured])),
        peak_bytes=int(np.median([one.peak_bytes for one in measured])),
    )


def _save_feed(feed: Feed, path: Path) -> Path:
    for name, array in feed.items():
        if array.dtype.hasobject:
            raise UnsupportedError(
                f"the feed for {name!r} holds Python objects, which no other process can be given; "
                "make it an array of numbers or of fixed-length strings."
            )
    arrays: dict[str, npt.NDArray[np.generic]] = dict(feed)
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return path


def _failure(model: Path | str, code: int, stderr: str) -> str:
    if code < 0:
        return (
            f"the process that measured {model} was ended by signal {-code}: is there enough memory for it?"
        )
    lines = stderr.strip().splitlines()
    return lines[-1] if lines else f"the process that measured {model} ended with code {code}."
