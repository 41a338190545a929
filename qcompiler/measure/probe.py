"""The process behind ``qcompiler.measure.memory``: load one model, run it, report on itself as JSON.

    python -m qcompiler.measure.probe model.onnx [--feed feed.npz] [--threads 1]

It is a process of its own because memory that a process has once held is not given back reliably.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import time
from pathlib import Path

import numpy as np

from qcompiler.errors import QCompilerError
from qcompiler.package.deployed import is_deployed

_KIB = 1024


def resident_bytes() -> int:
    """Resident memory of this process now (Linux: VmRSS)."""
    return _status_kib("VmRSS") * _KIB


def peak_resident_bytes() -> int:
    """Most resident memory of this process since ``reset_peak`` (Linux: VmHWM)."""
    return _status_kib("VmHWM") * _KIB


def reset_peak() -> None:
    """Start the peak anew. Where the kernel forbids it, the peak includes importing the runtime."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def probe(model: Path, feed_file: Path | None, *, threads: int) -> dict[str, float]:
    """Load and run a model; return seconds and bytes under the field names of ``MemoryFigures``."""
    from qcompiler.measure.sessions import run_checked, timing_session

    feed = {} if feed_file is None else dict(np.load(feed_file, allow_pickle=False))
    __import__("tvm_ffi" if is_deployed(model) else "onnxruntime")  # no part of what loading takes
    baseline = resident_bytes()
    reset_peak()
    started = time.perf_counter()
    session = timing_session(model, threads=threads)
    load_seconds = time.perf_counter() - started
    after_load = resident_bytes()
    if feed_file is not None:
        run_checked(session, [feed], model=str(model))
    return {
        "load_seconds": load_seconds,
        "baseline_bytes": baseline,
        "loaded_bytes": after_load - baseline,
        "resident_bytes": resident_bytes() - baseline,
        "peak_bytes": peak_resident_bytes() - baseline,
    }


def main() -> int:
    """Write one JSON object to standard output, or one line to standard error."""
    parser = argparse.ArgumentParser(prog="python -m qcompiler.measure.probe")
    parser.add_argument("model", type=Path)
    parser.add_argument("--feed", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    try:
        figures = probe(arguments.model, arguments.feed, threads=arguments.threads)
    except QCompilerError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    json.dump(figures, sys.stdout)
    return 0


def _status_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text("ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise AssertionError(f"/proc/self/status has no {field}")


if __name__ == "__main__":
    sys.exit(main())
