"""One generated kernel beside what ONNX Runtime runs for the same: how both are called, timed and compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.multiplying import macs, multiplying
from benchmarks.reading import reading
from benchmarks.results_file import Row, Scores, Speed, speed_record
from qcompiler.measure.latency import Runner, measure_latency, speed_ratio
from qcompiler.measure.ratio import Ratio
from qcompiler.measure.sessions import timing_options, timing_session

MAX_SECONDS = 5.0
ROUNDS, ROUND_MS = 75, 1.0
"""Many short rounds: most of them are not interrupted where the machine has other work, and the median is theirs."""

MULTIPLIERS = "the multipliers alone"
"""As many products of uint8 and int8 on registers, nothing loaded, scaled or written: the most that vectors can do."""

WEIGHTS = "reading the weights alone"
"""Once, in the order of memory: the most that one row can do, wherever the weights lie."""

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Call:
    """Arrays of one shape.

    Attributes:
        inputs: of the kernel that are not constants, by the names of the models.
        outputs: of the kernel, likewise; the first is compared.
        expected: what the first output should be; None for what the first model gives.
    """

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    expected: Array | None = None


@dataclass(frozen=True)
class Case:
    """One kernel.

    Attributes:
        name: of the row.
        kernel: compiled.
        calls: by name of the shape; made when they are needed.
        models: ONNX models, by name.
        constants: of the kernel: they follow its first input.
        products: int8 products for each row of the first input, for a row against the multipliers alone; 0 for none.
    """

    name: str
    kernel: Any
    calls: Mapping[str, Callable[[], Call]]
    models: Mapping[str, bytes]
    constants: tuple[Array, ...] = field(default=())
    products: int = 0


def compiled(generate: Callable[[Any], Any], *, tiles: bool = False) -> Any:
    """The fastest variant that this CPU runs, of kernels that have ``tiles`` or not."""
    from qcompiler.backends.tvm.compile_kernel import compile_kernel
    from qcompiler.backends.tvm.cpu_features import host_features, runnable_variants

    found = runnable_variants(host_features())[0]
    variant = found if tiles else found.vectors
    return compile_kernel(generate(variant), variant)


def measure_case(case: Case, *, threads: int) -> list[Row]:
    """A row for every model, with a speed for every shape.

    One thread is timed in processor time, which other work on the machine leaves alone; two in wall time.

    Args:
        case: what is measured.
        threads: of ONNX Runtime; those of TVM were fixed when its runtime began.
    """
    from qcompiler.backends.tvm.compile_kernel import aligned

    options, clock = timing_options(threads=threads), time.process_time if threads == 1 else time.perf_counter
    sessions = {name: timing_session(model, options=options) for name, model in case.models.items()}
    constants = [aligned(array) for array in case.constants]
    multiply = {MULTIPLIERS: multiplying(threads)} if case.products else {}
    read = {WEIGHTS: reading(constants)} if constants and threads == 1 else {}
    speeds: dict[str, dict[str, Speed]] = {name: {} for name in [*sessions, *multiply, *read]}
    sqnr_db = np.inf
    for shape, make in case.calls.items():
        call = make()
        inputs = {name: aligned(array) for name, array in call.inputs.items()}
        first, *others = inputs.values()
        outputs = {name: aligned(array) for name, array in call.outputs.items()}
        runners = {name: _bound(session, inputs, call.outputs) for name, session in sessions.items()}
        runners |= multiply | read
        runners[""] = case.kernel.bound(first, *constants, *others, *outputs.values())
        times = measure_latency(
            runners, rounds=ROUNDS, min_round_ms=ROUND_MS, max_seconds=MAX_SECONDS, clock=clock
        )
        for name in speeds:
            ratio = speed_ratio(times[name], times[""])
            if name in multiply:
                ratio = _scaled(ratio, len(first) * case.products / macs(threads))
            speeds[name][shape] = speed_record(ratio, times[""].median_ms)
        result, theirs = (next(iter(some.values())) for some in (outputs, call.outputs))
        sqnr_db = min(sqnr_db, _sqnr_db(theirs if call.expected is None else call.expected, result))
    suffix = "" if threads == 1 else f", {threads} threads"
    scores = Scores(against_float={"SQNR dB": sqnr_db}).rounded()
    return [
        Row(name=f"{case.name}, against {name}{suffix}", scores=scores, speed=speed)
        for name, speed in speeds.items()
    ]


def _bound(session: Any, inputs: Mapping[str, Array], outputs: Mapping[str, Array]) -> Runner:
    """A run of a session on memory that is bound once: no copies, as for the kernel."""
    binding = session.io_binding()
    for value in session.get_inputs():
        binding.bind_cpu_input(value.name, inputs[value.name])
    for value in session.get_outputs():
        array = outputs[value.name]
        binding.bind_output(value.name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def run(_held: tuple[Mapping[str, Array], Mapping[str, Array]] = (inputs, outputs)) -> None:
        session.run_with_iobinding(binding)

    return run


def _scaled(ratio: Ratio, factor: float) -> Ratio:
    """Where the baseline's call did ``1 / factor`` of the work."""
    return Ratio(ratio.median * factor, ratio.low * factor, ratio.high * factor, ratio.confidence)


def _sqnr_db(expected: Array, actual: Array) -> float:
    error = float(np.square(expected.astype(np.float64) - actual).sum())
    return 10 * float(np.log10(float(np.square(expected, dtype=np.float64).sum()) / max(error, 1e-30)))


def onnx_model(
    nodes: str, inputs: Mapping[str, str], outputs: Mapping[str, str], constants: Mapping[str, Array]
) -> bytes:
    """A model of nodes in ONNX text; inputs and outputs by name with their types, ``"float[M, 8]"``."""
    import onnx

    sides = (", ".join(f"{kind} {name}" for name, kind in side.items()) for side in (inputs, outputs))
    text = '<ir_version: 10, opset_import: ["": 23, "com.microsoft": 1]> graph '
    text += "({}) => ({}) ".format(*sides) + f"{{ {nodes} }}"
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in constants.items()
    )
    return bytes(model.SerializeToString())
