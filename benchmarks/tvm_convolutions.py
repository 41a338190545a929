"""How fast are the generated convolutions, and image models made of them, against ONNX Runtime's?

    python -m benchmarks.tvm_convolutions --assets ../shared/assets

A layer is one kernel on codes or floats with channels last, on one thread, interleaved with ONNX Runtime's kernel for
the same layer: integer layers with its ``QLinearConv`` that also takes channels last, so that it turns nothing around;
float layers with ``Conv``, which reorders what comes in and goes out.  A model is the artifact of tvm-cpu against that
of ort-cpu, both of the same passes and calibration data.  Every speed is ONNX Runtime's time / ours,
in processor time where there is one thread, because neighbours come and go.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import mobilenet, resnet20
from benchmarks.program import Place, Question, answer
from benchmarks.results_file import Row, Scores, Speed, speed_record
from qcompiler.measure.latency import Runner, measure_latency, speed_ratio
from qcompiler.measure.sessions import session_runner, timing_session

MAX_SECONDS = 2.0
MODEL_SECONDS = 20.0
PADS = (1, 1, 1, 1)
BEHIND = (0, 0, 1, 1)
ZERO = 113

Array = npt.NDArray[Any]

RESNET20 = {
    "3x3, 16 to 16, 32x32": (32, 16, 16, 3, 1, PADS),
    "3x3, 16 to 32, 32x32, stride 2": (32, 16, 32, 3, 2, PADS),
    "3x3, 32 to 32, 16x16": (16, 32, 32, 3, 1, PADS),
    "3x3, 64 to 64, 8x8": (8, 64, 64, 3, 1, PADS),
}
MOBILENET = {
    "3x3, 4 to 24, 224x224, stride 2": (224, 4, 24, 3, 2, BEHIND),
    "1x1, 24 to 48, 112x112": (112, 24, 48, 1, 1, (0, 0, 0, 0)),
    "1x1, 96 to 96, 56x56": (56, 96, 96, 1, 1, (0, 0, 0, 0)),
    "1x1, 384 to 384, 14x14": (14, 384, 384, 1, 1, (0, 0, 0, 0)),
    "1x1, 768 to 768, 7x7": (7, 768, 768, 1, 1, (0, 0, 0, 0)),
}
DEPTHWISE = {
    "depthwise 3x3, 24, 112x112": (112, 24, 24, 3, 1, PADS),
    "depthwise 3x3, 96, 56x56, stride 2": (56, 96, 96, 3, 2, BEHIND),
    "depthwise 3x3, 384, 14x14": (14, 384, 384, 3, 1, PADS),
}
"""Size, channels, filters, kernel, stride, pads."""


@dataclass(frozen=True)
class Layer:
    """One convolution.

    Attributes:
        shape: a ``ConvShape``.
        weight: ``[F, C / groups, i, j]``, int8.
    """

    name: str
    shape: Any
    weight: npt.NDArray[np.int8]


def layers() -> list[Layer]:
    """Layers of both models."""
    from qcompiler.backends.tvm.kernels.conv_shape import ConvShape

    random, found = np.random.default_rng(0), []
    for name, (size, channels, filters, kernel, stride, pads) in {
        **RESNET20,
        **MOBILENET,
        **DEPTHWISE,
    }.items():
        groups = channels if name in DEPTHWISE else 1
        shape = ConvShape(
            size, size, channels, filters, (kernel, kernel), (stride, stride), pads, groups=groups
        )
        weight = random.integers(-127, 128, (filters, channels // groups, kernel, kernel))
        found.append(Layer(name, shape, weight.astype(np.int8)))
    return found


def measure(place: Place) -> list[Row]:
    """A row for every layer in integers and in floats, on one thread, then one for every model."""
    os.environ["TVM_NUM_THREADS"] = "1"
    rows: list[Row] = []
    for layer in layers():
        rows += [measure_codes(layer), measure_floats(layer)]
        print(rows[-2].name, rows[-2].speed, file=sys.stderr, flush=True)
    return [*measure_models(place), *rows]


def fastest() -> Any:
    """The variant for this CPU."""
    from qcompiler.backends.tvm.cpu_features import host_features, runnable_variants

    return runnable_variants(host_features())[0]


def measure_codes(layer: Layer) -> Row:
    """uint8 in and out, per channel scales."""
    from qcompiler.backends.tvm.kernels import conv_int8, depthwise
    from qcompiler.backends.tvm.kernels.conv_epilogue import Codes, ConvEpilogue, Numbers

    shape, result = layer.shape, Codes(0.05, 100)
    w_scale = np.full(shape.filters, 1e-3 / np.sqrt(layer.weight[0].size), np.float32)
    numbers, epilogue = Numbers(np.float32(0.05) * w_scale, result=result), ConvEpilogue(codes_out=True)
    spec: Any
    if shape.is_depthwise:
        spec = depthwise.Depthwise(shape, fastest(), codes=True, epilogue=epilogue)
        function = depthwise.depthwise(spec)
        arrays = depthwise.pack(spec, layer.weight, ZERO, numbers)
    else:
        spec = conv_int8.ConvInt8(shape, fastest(), epilogue)
        function = conv_int8.conv_int8(spec)
        arrays = conv_int8.pack(spec, layer.weight, ZERO, numbers)
    size = (1, shape.height, shape.width, shape.channels)
    x = np.random.default_rng(1).integers(0, 256, size).astype(np.uint8)
    constants = {
        "xs": np.float32(0.05), "xz": np.uint8(ZERO), "w": layer.weight, "ws": w_scale,
        "wz": np.zeros(shape.filters, np.int8), "ys": np.float32(result.scale), "yz": np.uint8(result.zero_point),
    }  # fmt: skip
    model = onnx_layer(
        "com.microsoft.QLinearConv", "x,xs,xz,w,ws,wz,ys,yz", shape, "uint8", constants, last=True
    )
    return measure_layer(f"int8 {layer.name}", function, x, arrays, shape, model, last=True)


def measure_floats(layer: Layer) -> Row:
    """float32 in and out."""
    from qcompiler.backends.tvm.kernels import conv_float, depthwise
    from qcompiler.backends.tvm.kernels.conv_epilogue import Numbers

    shape, one = layer.shape, Numbers(np.ones(1, np.float32))
    weight = layer.weight.astype(np.float32) / np.float32(127)
    spec: Any
    if shape.is_depthwise:
        spec = depthwise.Depthwise(shape, fastest(), codes=False)
        function, arrays = depthwise.depthwise(spec), depthwise.pack(spec, weight, 0, one)
    else:
        spec = conv_float.ConvFloat(shape, fastest())
        function, arrays = conv_float.conv_float(spec), conv_float.pack(spec, weight, one)
    size = (1, shape.height, shape.width, shape.channels)
    x = np.random.default_rng(1).standard_normal(size, np.float32)
    model = onnx_layer("Conv", "x,w", shape, "float", {"w": weight}, last=False)
    return measure_layer(f"float {layer.name}", function, x, arrays, shape, model, last=False)


def measure_layer(
    name: str, function: Any, x: Array, constants: Any, shape: Any, model: bytes, *, last: bool
) -> Row:
    """Time one layer against ONNX Runtime's, and compare the results."""
    from qcompiler.backends.tvm.compile_kernel import aligned, compile_kernel

    kernel = compile_kernel(function, fastest())
    y = aligned(np.empty((1, shape.out_height, shape.out_width, shape.filters), x.dtype))
    session = timing_session(model)
    theirs = np.ascontiguousarray(x if last else x.transpose(0, 3, 1, 2))
    runners: dict[str, Runner] = {
        "theirs": bound(session, theirs, y.shape if last else tuple(y.transpose(0, 3, 1, 2).shape)),
        "ours": kernel.bound(aligned(x), *(aligned(array) for array in constants), y),
    }
    times = measure_latency(runners, max_seconds=MAX_SECONDS, clock=time.thread_time)
    expected = session.run(None, {"x": theirs})[0]
    difference = (expected if last else expected.transpose(0, 2, 3, 1)).astype(np.float32) - y
    speed = {"1 thread": speed_record(speed_ratio(times["theirs"], times["ours"]), times["ours"].median_ms)}
    scores = Scores(own={"max difference": float(np.abs(difference).max())}).rounded()
    return Row(name=name, scores=scores, speed=speed)


def bound(session: Any, x: Array, shape: tuple[int, ...]) -> Runner:
    """A run of a session on memory that is bound once: no copies, as for the kernel."""
    y = np.empty(shape, x.dtype)
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, x.dtype, y.shape, y.ctypes.data)

    def run(_held: tuple[Array, Array] = (x, y)) -> None:
        session.run_with_iobinding(binding)

    return run


def onnx_layer(
    operator: str, inputs: str, shape: Any, dtype: str, constants: dict[str, Any], *, last: bool
) -> bytes:
    """One convolution of one image."""
    import onnx

    before = [1, shape.height, shape.width, shape.channels]
    after = [1, shape.out_height, shape.out_width, shape.filters]
    if not last:
        before, after = ([size[axis] for axis in (0, 3, 1, 2)] for size in (before, after))
    attributes = f"kernel_shape = {list(shape.kernel)}, strides = {list(shape.strides)}, "
    attributes += f"pads = {list(shape.pads)}, group = {shape.groups}" + (
        ", channels_last = 1" if last else ""
    )
    text = '<ir_version: 9, opset_import: ["": 19, "com.microsoft": 1]> layer '
    text += f"({dtype}{before} x) => ({dtype}{after} y) {{ y = {operator}<{attributes}>({inputs}) }}"
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    return bytes(model.SerializeToString())


def measure_models(place: Place) -> list[Row]:
    """Both image models in int8, at one and two threads."""
    with np.load(place.asset(f"{resnet20.FOLDER}/cifar10_subset.npz")) as archive:
        pictures = resnet20.normalize(archive["calib_images"][:200])
    large = mobilenet.load_pictures(mobilenet.find_pictures(place)[:: mobilenet.EVERY])
    first = place.asset(f"{resnet20.FOLDER}/resnet20_cifar10.onnx")
    second = place.asset(f"{mobilenet.FOLDER}/mobilenet_v1_0.75_224.onnx")
    return [
        measure_model("ResNet-20", first, pictures, (1, 16), place.scratch),
        measure_model("MobileNetV1 0.75", second, large, (1,), place.scratch),
    ]


def measure_model(name: str, path: Path, data: Array, batches: tuple[int, ...], scratch: Path) -> Row:
    """Compile for both targets with the same passes and data, and time both artifacts."""
    import qcompiler
    from qcompiler.backends.tvm.session import TvmSession

    feeds = [{"input": data[index : index + 1]} for index in range(len(data))]
    made = {
        target: qcompiler.compile(
            path, "int8_static", calibration=feeds, target=target, output=scratch / f"{path.stem}-{label}"
        )
        for label, target in (("ort", "ort-cpu"), ("tvm", "tvm-cpu:host_only=true"))
    }
    speed: dict[str, Speed] = {}
    agreement = 0.0
    for threads in (1, 2):
        theirs = timing_session(made["ort-cpu"].path, threads=threads)
        ours = TvmSession(made["tvm-cpu:host_only=true"].path, threads=threads)
        for batch in batches:
            feed = {"input": np.ascontiguousarray(data[:batch])}
            runners = {"theirs": session_runner(theirs, [feed]), "ours": session_runner(ours, [feed])}
            clock = time.thread_time if threads == 1 else time.perf_counter
            times = measure_latency(runners, max_seconds=MODEL_SECONDS, clock=clock)
            ratio = speed_ratio(times["theirs"], times["ours"])
            speed[f"{batch} picture{'s' * (batch > 1)}, {threads} thread{'s' * (threads > 1)}"] = (
                speed_record(ratio, times["ours"].median_ms)
            )
        several = {"input": data[:100]}
        same = theirs.run(None, several)[0].argmax(-1) == ours.run(None, several)[0].argmax(-1)
        agreement = 100 * float(same.mean())
    scores = Scores(own={"same top-1 %": agreement}).rounded()
    return Row(name=f"{name}, int8_static, against ort-cpu", scores=scores, speed=speed)


QUESTION = Question(
    name="tvm_convolutions",
    title="Generated convolutions",
    data="random layers; models calibrated on 200 training pictures and 100 pictures",
    measure=measure,
)

if __name__ == "__main__":
    sys.exit(answer(QUESTION))
