"""What this machine could do at best: reading memory once, and multiplying matrices of 128 rows."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx_ir as ir

from benchmarks.low_bit_stacks import single
from benchmarks.results_file import Speed, speed_record
from qcompiler.measure.latency import measure_latency, speed_ratio
from qcompiler.measure.sessions import session_runner, timing_session

READ_BYTES = 1 << 30
"""More than any cache holds."""

READS = 7
K, N, ROWS = 2048, 5632, 128
_WEIGHTED = {
    "MatMul": (1,),
    "Gemm": (1,),
    "MatMulNBits": (1, 2, 3),
    "DynamicQuantizeMatMul": (1, 2),
    "MatMulIntegerToFloat": (1, 3),
}
"""By op, the inputs that hold the weight."""


def read_gb_per_second(threads: int) -> float:
    """The best of several reads of a buffer that no cache holds, every thread its own part."""
    buffer = np.ones(READ_BYTES // 4, np.float32)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(READS):
            started = time.perf_counter()
            list(pool.map(np.max, np.array_split(buffer, threads)))
            best = max(best, buffer.nbytes / (time.perf_counter() - started) / 1e9)
    return best


def product_speeds(forms: Sequence[str], *, threads: int, seconds: float) -> dict[str, Speed]:
    """One product of 2048 x 5632 with 128 rows, against float32."""
    sessions = {form: timing_session(single(form, K, N), threads=threads) for form in ("float32", *forms)}
    feed = {"x": np.random.default_rng(0).standard_normal((1, ROWS, K)).astype(np.float32)}
    runners = {form: session_runner(session, [feed]) for form, session in sessions.items()}
    found = measure_latency(runners, rounds=25, max_seconds=seconds)
    return {
        form: speed_record(speed_ratio(found["float32"], stats), stats.median_ms)
        for form, stats in found.items()
    }


def bytes_of_a_step(path: Path) -> int:
    """Bytes of weights that one token reads, as kernels hold them: scales in float32; of every If the first branch."""
    model = ir.load(path)
    counted = {
        value: size
        for node in [*model.graph, *_decoding(model.graph)]
        for index in _WEIGHTED.get(node.op_type, ())
        if index < len(node.inputs) and (value := node.inputs[index]) is not None
        if (size := _held_bytes(value))
    }
    return sum(counted.values())


def _decoding(graph: ir.Graph) -> list[ir.Node]:
    branches = [node.attributes["then_branch"].as_graph() for node in graph if node.op_type == "If"]
    return [node for branch in branches for node in branch]


def _held_bytes(value: ir.Value) -> int:
    """Of a constant, or of the float32 that a Cast makes of one."""
    if value.const_value is not None:
        return value.const_value.nbytes
    maker = value.producer()
    if maker is None or maker.op_type != "Cast" or maker.inputs[0] is None:
        return 0
    half = maker.inputs[0].const_value
    return 0 if half is None else 4 * half.size
