"""From how many rows on the int8 product beats MatMulNBits on this machine.

MatMulNBits reads fewer bytes and wins while a product is bound by memory; from some number of rows on arithmetic
counts, and DynamicQuantizeMatMul has the better kernel.  Both are timed on a stack of matrices that no cache holds,
half of them in blocks of 32 and half of 128, by the time of the processor, which others on the machine take less from
than from the clock's.  The crossing is rounded to a power of two, and kept: :mod:`.measured_once`.
"""

from __future__ import annotations

import functools
import logging
import math
import time

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.measured_once import measured_once

ROWS = (2, 4, 8, 16, 32)
"""Numbers of rows that are timed."""

LAYERS, SIZE = 12, 2048
"""Square matrices in the stack: 25 MB of 4-bit codes, 50 MB of int8."""

USUAL_ROWS = 8
"""The crossing for a machine that is not this one: what a Zen 4 has, and what an AMX machine had."""

_SECONDS = 0.6
logger = logging.getLogger(__name__)


@functools.cache
def measured_prefill_rows() -> int:
    """The crossing in rows, a power of two from 2 to 64; the first call on a machine takes about three seconds."""
    return measured_once("prefill_rows", _measure)


def _measure() -> int:
    from qcompiler.measure.latency import measure_latency
    from qcompiler.measure.sessions import session_runner, timing_session

    sessions = {name: timing_session(_stack(name)) for name in ("blocks", "columns")}
    ratios = []
    for rows in ROWS:
        feed = {"x": np.ones((rows, SIZE), np.float32)}
        runners = {name: session_runner(session, [feed]) for name, session in sessions.items()}
        found = measure_latency(runners, rounds=5, max_seconds=_SECONDS, clock=time.process_time)
        ratios.append(found["columns"].median_ms / found["blocks"].median_ms)
    crossing = crossing_rows(ROWS, ratios)
    logger.debug("int8 / 4-bit time at %s rows: %s; crossing at %d", ROWS, np.round(ratios, 2), crossing)
    return crossing


def crossing_rows(rows: tuple[int, ...], ratios: list[float]) -> int:
    """The power of two nearest to where ``ratios`` (falling) cross 1, at logarithmic scale.

    Args:
        rows: rising numbers of rows, each twice the one before.
        ratios: time of the int8 form / time of the few-bit form.
    """
    for index, ratio in enumerate(ratios):
        if ratio > 1.0:
            continue
        if index == 0:
            return rows[0]
        before = math.log(ratios[index - 1])
        share = before / (before - math.log(ratio))
        exponent = math.log2(rows[index - 1]) + share
        return int(2 ** round(exponent))
    return rows[-1] * 2


def _stack(form: str) -> bytes:
    """A chain of products of random codes, serialized."""
    rng = np.random.default_rng(0)
    value = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["rows", SIZE]))
    inputs, constants, nodes = [value], [], []

    def constant(name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
        constants.append(ir.Value(name=name, const_value=ir.tensor(array, name=name)))
        return constants[-1]

    for layer in range(LAYERS):
        if form == "columns":
            codes = constant(f"codes{layer}", rng.integers(-127, 128, (SIZE, SIZE), np.int8))
            scale = constant(f"scale{layer}", np.full(SIZE, 1e-4, np.float32))
            node = ir.node("DynamicQuantizeMatMul", [value, codes, scale], domain="com.microsoft")
        else:
            block = (32, 128)[layer % 2]
            shape = (SIZE, SIZE // block, block // 2)
            codes = constant(f"codes{layer}", rng.integers(0, 256, shape, np.uint8))
            scale = constant(f"scale{layer}", np.full(shape[:2], 1e-3, np.float32))
            attributes = {"K": SIZE, "N": SIZE, "bits": 4, "block_size": block, "accuracy_level": 4}
            node = ir.node("MatMulNBits", [value, codes, scale], attributes, domain="com.microsoft")
        value = node.outputs[0]
        value.name = f"y{layer}"
        nodes.append(node)
    value.type, value.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape(["rows", SIZE])
    imports = {"": 21, "com.microsoft": 1}
    graph = ir.Graph(
        inputs, [value], nodes=nodes, initializers=constants, opset_imports=imports, name="stack"
    )
    return bytes(ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString())
