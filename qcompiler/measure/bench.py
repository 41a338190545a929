"""``qcompile bench a.onnx b.onnx``: size, load time, resident memory and latency, side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompiler.errors import OptionError
from qcompiler.measure.latency import LatencyStats, measure_latency, speed_ratio
from qcompiler.measure.memory import MemoryFigures, median_memory
from qcompiler.measure.ratio import Ratio
from qcompiler.measure.sessions import Feed, run_checked, session_runner, timing_session
from qcompiler.measure.size import model_size_bytes


@dataclass(frozen=True)
class ModelFigures:
    """Figures of one model.

    Attributes:
        path: the file.
        size_bytes: on disk, external data included.
        latency: milliseconds per pass over all feeds.
        ratio: how many times faster than the first model; None for the first itself.
        memory: load time and resident memory; None where it was not asked for or is not Linux.
    """

    path: Path
    size_bytes: int
    latency: LatencyStats
    ratio: Ratio | None
    memory: MemoryFigures | None

    @property
    def load_ms(self) -> float | None:
        return None if self.memory is None else self.memory.load_seconds * 1e3

    @property
    def resident_mb(self) -> float | None:
        return None if self.memory is None else self.memory.resident_bytes / 1e6


@dataclass(frozen=True)
class BenchReport:
    """Figures of all models, in the order given.

    Attributes:
        models: the figures; ratios refer to the first.
        feeds: number of feeds in one pass.
        threads: threads within an operator.
        memory_note: why there is no memory column, or "".
    """

    models: tuple[ModelFigures, ...]
    feeds: int
    threads: int
    memory_note: str = ""


def bench_models(
    paths: Sequence[Path | str],
    feeds: Sequence[Feed],
    *,
    threads: int = 1,
    rounds: int = 15,
    max_seconds: float = 30.0,
    with_memory: bool = True,
) -> BenchReport:
    """Measure models with the same inputs against each other.

    Args:
        paths: ONNX files; the first is what the others are compared with.
        feeds: what they all run on. One timed call runs every feed once.
        threads: threads within an operator.
        rounds: interleaved rounds of the latency measurement.
        max_seconds: time budget of the latency measurement.
        with_memory: also measure load time and memory, in three fresh processes per model.

    Raises:
        OptionError: no model.
        ModelError: a model cannot be loaded.
        CalibrationError: a model does not run on the feeds.
    """
    if not paths:
        raise OptionError("nothing to measure: give at least one model.")
    files = [Path(path) for path in paths]
    sizes = [model_size_bytes(file) for file in files]
    latencies = _latencies(files, feeds, threads=threads, rounds=rounds, max_seconds=max_seconds)
    note = "" if with_memory else "not asked for"
    if with_memory and sys.platform != "linux":
        note = "load time and resident memory are measured on Linux only"
    memories = [None if note else median_memory(file, feeds[0], threads=threads) for file in files]
    models = tuple(
        ModelFigures(file, size, latency, None if index == 0 else speed_ratio(latencies[0], latency), memory)
        for index, (file, size, latency, memory) in enumerate(
            zip(files, sizes, latencies, memories, strict=True)
        )
    )
    return BenchReport(models=models, feeds=len(feeds), threads=threads, memory_note=note)


def _latencies(
    files: Sequence[Path], feeds: Sequence[Feed], *, threads: int, rounds: int, max_seconds: float
) -> list[LatencyStats]:
    runners = {}
    for index, file in enumerate(files):
        session = timing_session(file, threads=threads)
        run_checked(session, feeds, model=str(file))
        runners[f"{index}:{file}"] = session_runner(session, feeds)
    return list(measure_latency(runners, rounds=rounds, max_seconds=max_seconds).values())
