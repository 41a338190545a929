"""Who is compared: our compiler with some passes, or a peer; each runs in a fresh process that measures itself.

python -m benchmarks.contender JOB.json      # prints seconds and peak resident memory as JSON
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

from benchmarks.results_file import Record

OURS = "qcompiler"
ROOT = Path(__file__).parent.parent
FAILURE_LENGTH = 160


class Contender(Record):
    """What makes a quantized model.

    Attributes:
        tool: "qcompiler", or a key of ``benchmarks.peers.PEERS``.
        passes: as for ``--passes``; only for our own.
        batch: calibration samples a feed; only for our own, peers take one.
    """

    tool: str
    passes: str = ""
    batch: int = 1

    @property
    def name(self) -> str:
        return f"{self.tool} {self.passes}".strip()


class Job(Record):
    """One compile.

    Attributes:
        calibration: .npz of samples, or None for what needs no data.
        verification: .npz of samples that our compiler verifies its result on.
        min_cosine: below which our compiler refuses its result; None for what it does by default.
        max_ram_bytes: as ``--max-ram``; only for our own.
    """

    contender: Contender
    model: Path
    output: Path
    calibration: Path | None = None
    verification: Path | None = None
    verify: Literal["none", "numerics"] = "numerics"
    min_cosine: float | None = None
    max_ram_bytes: int | None = None


class Cost(Record):
    """Wall time, processor time and most resident memory of the process; with why it failed, or ""."""

    seconds: float
    peak_bytes: int
    processor_seconds: float = 0.0
    failure: str = ""


def run_job(job: Job, *, timeout_seconds: float = 900.0) -> Cost:
    """Compile in a fresh process."""
    path = job.output.with_suffix(".job.json")
    path.write_text(job.model_dump_json(), "utf-8")
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.contender", str(path)]
    try:
        done = subprocess.run(
            command,
            cwd=job.output.parent,  # quant_pre_process leaves files in its working directory
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Cost(seconds=timeout_seconds, peak_bytes=0, failure=f"not done in {timeout_seconds:.0f} s")
    seconds = round(time.perf_counter() - started, 2)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"ended with code {done.returncode}"]
        return Cost(seconds=seconds, peak_bytes=0, failure=lines[-1][:FAILURE_LENGTH])
    measured = json.loads(done.stdout.splitlines()[-1])
    return Cost(
        seconds=seconds,
        peak_bytes=int(measured["peak_bytes"]),
        processor_seconds=round(float(measured["processor_seconds"]), 2),
    )


def perform(job: Job) -> None:
    """Compile in this process."""
    if job.contender.tool == OURS:
        _compile(job)
        return
    from benchmarks.peers import PEERS

    PEERS[job.contender.tool](job.model, job.output, job.calibration)


def _compile(job: Job) -> None:
    from qcompiler.data.options import DataOptions
    from qcompiler.driver import compile as compile_model
    from qcompiler.request import LOWEST_COSINE, CompileOptions

    options = CompileOptions(
        verify=job.verify,
        verify_data=job.verification,
        min_cosine=LOWEST_COSINE if job.min_cosine is None else job.min_cosine,
        data=DataOptions(batch=job.contender.batch),
        max_ram_bytes=job.max_ram_bytes,
    )
    compile_model(
        job.model,
        job.contender.passes,
        calibration=job.calibration,
        output=job.output,
        options=options,
    )


def peak_bytes() -> int:
    """Most resident memory this process ever had, in bytes (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no VmHWM")


def main() -> None:
    """Do the job in the file named and print what it cost."""
    perform(Job.model_validate_json(Path(sys.argv[1]).read_text("utf-8")))
    print(json.dumps({"peak_bytes": peak_bytes(), "processor_seconds": time.process_time()}), flush=True)
    os._exit(0)  # what the runtime does at exit belongs to no compile


if __name__ == "__main__":
    main()
