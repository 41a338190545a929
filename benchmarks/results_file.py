"""What a benchmark measured, as JSON: one file per question in ``benchmarks/results``."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from qcompiler.measure.ratio import Ratio

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("qcompiler", "onnxruntime", "onnx", "onnx-ir", "numpy")
_INTEGER_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


class Record(BaseModel):
    """A part of a result: immutable, and strict about its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(Record):
    """Where it was measured.

    Attributes:
        features: instruction sets that integer kernels care about.
        memory_gb: of the machine, 0 where unknown.
        load: mean number of runnable processes over the last minute, as the run began.
    """

    processor: str
    cores: int
    features: tuple[str, ...]
    memory_gb: float
    load: float


class Speed(Record):
    """Float time / this model's time, measured in interleaved rounds, with its 95 % interval."""

    median: float
    low: float
    high: float
    latency_ms: float


class Scores(Record):
    """Figures of a model by name, which ends in the unit (``"top-1 %"``).

    Attributes:
        own: of the model alone: what a user measures.
        against_float: how far it is from the float model.
    """

    own: dict[str, float] = {}
    against_float: dict[str, float] = {}

    def rounded(self) -> Scores:
        """The same to four significant digits, which is more than they repeat to."""
        return Scores(
            own={name: rounded(value) for name, value in self.own.items()},
            against_float={name: rounded(value) for name, value in self.against_float.items()},
        )


class Row(Record):
    """One model of a comparison.

    Attributes:
        name: what made it.
        scores: figures of accuracy.
        size_bytes: on disk, external data included.
        speed: by shape of the input, against the float model.
        seconds: wall time of a fresh process that made it, imports and verification included.
        peak_bytes: most resident memory that process had (VmHWM).
        failure: why there are no figures, or "".
    """

    name: str
    scores: Scores = Scores()
    size_bytes: int | None = None
    speed: dict[str, Speed] = {}
    seconds: float | None = None
    peak_bytes: int | None = None
    failure: str = ""


class Result(Record):
    """The answer to one question.

    Attributes:
        title: what the table calls it.
        data: what it was calibrated and scored on.
        command: reruns it from the root of the repository.
        commit: of the repository, with "+" where the working tree differed.
    """

    title: str
    data: str
    command: str
    date: str
    commit: str
    machine: Machine
    versions: dict[str, str]
    rows: tuple[Row, ...]


def make_result(title: str, data: str, command: str, rows: tuple[Row, ...], machine: Machine) -> Result:
    """Add when, with what, and by which code."""
    return Result(
        title=title,
        data=data,
        command=command,
        date=datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        commit=_commit(),
        machine=machine,
        versions={"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}},
        rows=rows,
    )


def write_result(result: Result, path: Path) -> None:
    """Write one result."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(result.model_dump_json(indent=1) + "\n", "utf-8")


def read_result(path: Path) -> Result:
    """Read one result.

    Raises:
        pydantic.ValidationError: the file is not a result.
    """
    return Result.model_validate_json(path.read_text("utf-8"))


def speed_record(ratio: Ratio, latency_ms: float) -> Speed:
    """A measured ratio, rounded."""
    return Speed(
        median=rounded(ratio.median),
        low=rounded(ratio.low),
        high=rounded(ratio.high),
        latency_ms=rounded(latency_ms),
    )


def rounded(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def this_machine() -> Machine:
    """Describe the machine; processor, features and memory are read on Linux only."""
    info, memory = Path("/proc/cpuinfo"), 0.0
    lines = info.read_text().splitlines() if info.exists() else []
    pairs = (line.partition(":") for line in lines)
    facts = {name.strip(): value.strip() for name, _, value in pairs}
    flags = facts.get("flags", facts.get("Features", "")).split()
    if info.exists():
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return Machine(
        processor=facts.get("model name", platform.processor() or platform.machine()),
        cores=os.cpu_count() or 1,
        features=tuple(name for name in _INTEGER_FEATURES if name in flags),
        memory_gb=round(memory, 1),
        load=round(os.getloadavg()[0], 2),
    )


def _commit() -> str:
    root = Path(__file__).parent.parent
    described = ["git", "describe", "--always", "--dirty=+", "--abbrev=10", "--exclude=*"]
    done = subprocess.run(described, cwd=root, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
