"""What this machine could do at best: reading memory once, and multiplying matrices of 128 rows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx_ir as ir

from benchmarks.low_bit_stacks import single
from qcompiler.measure.latency import Runner
from qcompiler.measure.sessions import session_runner, timing_session

READ_BYTES = 1 << 28
"""More than any cache holds."""

K, N, ROWS = 2048, 5632, 128
FORMS = ("float32", "int8 columns, per tensor", "int8 columns, per token")
"""Of the product; the first is what the others are compared with."""

_WEIGHTED = {
    "MatMul": (1,),
    "Gemm": (1,),
    "MatMulNBits": (1, 2, 3),
    "DynamicQuantizeMatMul": (1, 2),
    "MatMulIntegerToFloat": (1, 3),
}
"""By op, the inputs that hold the weight."""


def reading(threads: int) -> Runner:
    """A call that reads ``READ_BYTES`` which no cache holds, every thread its own part."""
    parts = np.array_split(np.ones(READ_BYTES // 4, np.int32), threads)  # of floats, a maximum takes longer
    if threads == 1:  # in the caller's thread, whose processor time may be what is measured
        return lambda: np.max(parts[0])
    pool = ThreadPoolExecutor(threads)
    return lambda: list(pool.map(np.max, parts))


def products(threads: int) -> dict[str, Runner]:
    """By form, a call that multiplies 128 rows by one matrix of 2048 x 5632."""
    feed = {"x": np.random.default_rng(0).standard_normal((1, ROWS, K)).astype(np.float32)}
    return {
        form: session_runner(timing_session(single(form, K, N), threads=threads), [feed]) for form in FORMS
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
