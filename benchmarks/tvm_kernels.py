"""How fast are the generated kernels against those of ONNX Runtime?

    python -m benchmarks.tvm_kernels [--results FOLDER]

Every row is one kernel, float in and float out, on one thread, interleaved with what ONNX Runtime runs for the same
weights; its speed is ONNX Runtime's time / ours.  K = N = 2048.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores, Speed, speed_record
from qcompiler.measure.latency import Runner, measure_latency, speed_ratio
from qcompiler.measure.sessions import timing_session

SIZE = 2048
GROUP = 128
ROWS = (1, 4, 16, 128, 512)
MAX_SECONDS = 6.0

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Case:
    """One kernel.

    Attributes:
        name: of the row.
        arrays: parameters of the kernel between ``x`` and ``y``.
        kernel: compiled.
        weight: float32 ``[K, N]`` that it multiplies by.
        baselines: ONNX models with one input ``x`` and one output ``y``, by name.
        rows: numbers of rows of ``x``.
    """

    name: str
    arrays: Sequence[Array]
    kernel: Any
    weight: npt.NDArray[np.float32]
    baselines: Mapping[str, bytes]
    rows: Sequence[int] = ROWS


def cases() -> list[Callable[[], Case]]:
    """Makers of the cases: each holds tens of megabytes."""
    return [int8_static, lambda: int4("int4"), lambda: int4("nf4")]


def int8_static() -> Case:
    """int8 weights, activations by fixed scale and zero point, against QDQ."""
    from qcompiler.backends.tvm.kernels.gemm_int8 import GemmInt8, gemm_int8, pack

    random = np.random.default_rng(0)
    codes = random.integers(-127, 128, (SIZE, SIZE)).astype(np.int8)
    scale = random.uniform(1e-4, 1e-3, SIZE).astype(np.float32)
    found = pack(codes, scale)
    step, zero = np.float32(8 / 255), 128
    nodes = """
        q = QuantizeLinear(x, step, zero)
        d = DequantizeLinear(q, step, zero)
        w = DequantizeLinear<axis = 1>(codes, scale)
        y = MatMul(d, w)"""
    model = onnx_model(
        nodes, {"step": np.array(step), "zero": np.array(zero, np.uint8), "codes": codes, "scale": scale}
    )
    arrays = [np.array([step]), np.array([zero], np.int32), found.weight, found.scale, found.total]
    kernel = compiled(lambda variant: gemm_int8(GemmInt8(SIZE, SIZE, variant, "static")))
    return Case("int8 static", arrays, kernel, codes * scale, {"QDQ U8S8": model})


def int4(name: str) -> Case:
    """4-bit weights in groups, against MatMulNBits on the same codes and against float32."""
    from qcompiler.backends.tvm.kernels.gemm_low_bit import (
        GemmLowBit,
        gemm_low_bit,
        pack,
        pack_groups,
        pack_table,
    )
    from qcompiler.numerics.formats.packing import pack_groups as pack_nbits

    random = np.random.default_rng(0)
    codes = random.integers(0, 16, (SIZE, SIZE)).astype(np.uint8)
    scale = random.uniform(1e-3, 1e-2, (SIZE // GROUP, SIZE)).astype(np.float32)
    levels = np.arange(-8, 8) if name == "int4" else _NF4
    offset = -int(levels.min())
    weight = (levels[codes] * np.repeat(scale, GROUP, axis=0)).astype(np.float32)
    baselines = {"float32": onnx_model("y = MatMul(x, w)", {"w": weight})}
    if name == "int4":
        nodes = f"y = com.microsoft.MatMulNBits<K = {SIZE}, N = {SIZE}, bits = 4, block_size = {GROUP}, "
        nodes += "accuracy_level = 4>(x, codes, scale)"
        blocks = pack_nbits(codes.T, 4, GROUP, padding=8)
        baselines["MatMulNBits level 4"] = onnx_model(
            nodes, {"codes": blocks, "scale": np.ascontiguousarray(scale.T)}
        )
    table = name != "int4"
    arrays: list[Array] = [pack(codes, 4, GROUP), pack_groups(scale)]
    arrays += [pack_table((levels + offset).astype(np.uint8))] if table else []
    kernel = compiled(lambda variant: gemm_low_bit(GemmLowBit(SIZE, SIZE, 4, GROUP, variant, offset, table)))
    return Case(f"{name}, groups of {GROUP}", arrays, kernel, weight, baselines)


_NF4 = np.array([-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127])
"""QLoRA's levels (arXiv 2305.14314) times 127, rounded."""


def compiled(generate: Callable[[Any], Any]) -> Any:
    """The fastest variant that this CPU runs."""
    from qcompiler.backends.tvm.compile_kernel import compile_kernel
    from qcompiler.backends.tvm.cpu_features import host_features, runnable_variants

    variant = runnable_variants(host_features())[0]
    return compile_kernel(generate(variant), variant)


def onnx_model(nodes: str, constants: Mapping[str, Array]) -> bytes:
    """A model from ``x`` to ``y``, both ``[M, 2048]``."""
    import onnx

    text = '<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]> graph '
    text += f"(float[M, {SIZE}] x) => (float[M, {SIZE}] y) {{ {nodes} }}"
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in constants.items()
    )
    return bytes(model.SerializeToString())


def measure(place: Place) -> list[Row]:
    """A row for every kernel and what it is compared with."""
    del place
    os.environ["TVM_NUM_THREADS"] = "1"
    rows: list[Row] = []
    for make in cases():
        rows += measure_case(make())
        for row in rows[-1:]:
            print(row.model_dump_json(exclude_defaults=True), file=sys.stderr, flush=True)
    return rows


def measure_case(case: Case) -> list[Row]:
    """Time the kernel and its baselines at every number of rows."""
    from qcompiler.backends.tvm.compile_kernel import aligned

    sessions = {name: timing_session(model) for name, model in case.baselines.items()}
    speeds: dict[str, dict[str, Speed]] = {name: {} for name in sessions}
    arrays = [aligned(array) for array in case.arrays]
    sqnr_db = np.inf
    for count in case.rows:
        x = aligned(np.random.default_rng(count).standard_normal((count, SIZE), np.float32))
        y = aligned(np.empty((count, SIZE), np.float32))
        runners: dict[str, Runner] = {name: bound_session(session, x) for name, session in sessions.items()}
        runners[""] = case.kernel.bound(x, *arrays, y)
        times = measure_latency(runners, max_seconds=MAX_SECONDS)
        for name in sessions:
            speeds[name][f"{count} x {SIZE}"] = speed_record(
                speed_ratio(times[name], times[""]), times[""].median_ms
            )
        error = x @ case.weight - y
        sqnr_db = min(sqnr_db, 10 * np.log10(float(np.square(y).sum()) / float(np.square(error).sum())))
    scores = Scores(against_float={"SQNR dB": sqnr_db}).rounded()
    return [
        Row(name=f"{case.name}, against {name}", scores=scores, speed=speed) for name, speed in speeds.items()
    ]


def bound_session(session: Any, x: Array) -> Runner:
    """A run of a session on memory that is bound once: no copies, as for the kernel."""
    y = np.empty((len(x), SIZE), np.float32)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def run(_held: tuple[Array, Array] = (x, y)) -> None:
        session.run_with_iobinding(binding)

    return run


QUESTION = Question(
    name="tvm_kernels",
    title="Generated kernels",
    data="random weights of 2048 x 2048, normal activations",
    measure=measure,
    needs_assets=False,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
