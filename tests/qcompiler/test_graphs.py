"""The whole compiler over graphs of every kind: right, or refused in one clear line.

Every graph goes through every pipeline, each time for another target; a stock ONNX Runtime session runs the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

import qcompiler
from tests.qcompiler import graph_cases as g
from tests.qcompiler.graph_cases import Array, Case, Shape, between, convolution, gemm, product, random

PIPELINES = (
    "int8_dynamic",
    "int8_dynamic:granularity=token",
    "int8_static",
    "smoothquant,int8_static",
    "cross_layer_equalization,int8_static,bias_correction",
    "smoothquant,int8_dynamic",
)
TARGETS = ("ort-cpu", "ort-cpu:isa=avx2", "ort-cpu:isa=arm64", "onnx")
IF = """y = If (f) <then_branch = one () => (float[N, 8] s) {{ s = MatMul (x, w) }},
            else_branch = two () => (float[N, 8] t) {{ {0} }}>"""
LOOP = """k = Constant <value_int = 3> ()  t = Constant <value = bool {1}> ()
    y = Loop (k, t, x) <body = g (int64 i, bool c, float[N, 16] s) => (bool c2, float[N, 16] s2)
    { c2 = Identity (c)  m = MatMul (s, w)  s2 = Tanh (m) }>"""
SCAN = """l, y = Scan <num_scan_inputs = 1, body = g (float[16] s, float[16] e) => (float[16] s2, float[16] o)
    { m = MatMul (e, w)  n = MatMul (s, w)  a = Add (m, n)  s2 = Tanh (a)  o = Identity (s2) }> (z, x)"""
FUNCTION = '<domain: "own", opset_import: ["" : 21]> linear (a, b) => (c) { d = Relu (a)  c = MatMul (d, b) }'
FLAGGED = "float[N, 16] x, bool f"
FLAGGED_FEEDS: Mapping[str, Shape | Array] = {"x": (4, 16), "f": g.FLAG}

CASES: dict[str, Case] = {
    **{f"opset {a}": g.network(a, b) for a, b in ((7, 3), (9, 4), (11, 6), (13, 7), (15, 8), (17, 8))},
    **{f"opset {a}": g.network(a, b) for a, b in ((18, 8), (21, 10), (23, 11), (25, 12))},
    "initializers listed as inputs": g.network(9, 3, listed=True),
    "weights in If": Case(
        IF.format("r = Gemm (x, w, b)  t = Relu (r)"),
        {"w": g.W, "b": g.B},
        inputs=FLAGGED,
        feeds=FLAGGED_FEEDS,
    ),
    "name in a branch": Case(
        IF.format("x_quantized = Relu (x)  t = MatMul (x_quantized, w)"),
        {"w": g.W},
        inputs=FLAGGED,
        feeds=FLAGGED_FEEDS,
    ),
    "weights in Loop": Case(LOOP, {"w": g.SQUARE}, outputs="float[N, 16] y"),
    "weights in Scan": Case(
        SCAN, {"w": g.SQUARE, "z": np.zeros(16, np.float32)}, outputs="float[16] l, float[N, 16] y"
    ),
    "weights in a function": Case("y = own.linear (x, w)", {"w": g.W}, functions=FUNCTION),
    "tied embedding": Case(
        "e = Gather (w, x)  r = Relu (e)  t = Transpose <perm = [1, 0]> (w)  y = MatMul (r, t)",
        {"w": random(20, 16)},
        "int64[N, T] x",
        "float[N, T, 20] y",
        feeds={"x": g.IDS},
    ),
    "one weight, two axes": Case(
        "a = MatMul (x, w)  b = Relu (a)  y = Gemm <transB = 1> (b, w)",
        {"w": g.SQUARE},
        outputs="float[N, 16] y",
    ),
    "one weight, two MatMuls": Case(
        "a = MatMul (x, w)  b = Relu (a)  y = MatMul (b, w)", {"w": g.SQUARE}, outputs="float[N, 16] y"
    ),
    "one weight and bias, two Convs": between(
        "d = Conv <pads = [1, 1, 1, 1]> (x, w, b)  e = Relu (d)  m = Add (c, e)"
    ),
    "weight as output": Case(
        "y = MatMul (x, w)  z = Identity (w)", {"w": g.W}, outputs="float[N, 8] y, float[16, 8] z"
    ),
    "initializer as output": Case("y = MatMul (x, w)", {"w": g.W}, outputs="float[N, 8] y, float[16, 8] w"),
    "output consumed": Case(
        "a = Gemm (x, w, b)  r = Relu (a)  y = MatMul (r, w2)",
        {"w": g.W, "b": g.B, "w2": random(8, 8)},
        outputs="float[N, 8] a, float[N, 8] r, float[N, 8] y",
    ),
    "output of Conv consumed": Case(
        "c = Conv (x, w, b)  y = Conv (c, w2)",
        {"w": g.CONV, "b": g.B, "w2": g.CONV2},
        outputs="float[N, 8, 6, 6] c, float[N, 8, 4, 4] y",
        inputs="float[N, 4, 8, 8] x",
        feeds=g.IMAGE,
    ),
    "input as output": Case("y = MatMul (x, w)", {"w": g.W}, outputs="float[N, 16] x, float[N, 8] y"),
    "unused input": Case(
        "a = MatMul (x, w)  y = Clip (a,,)",
        {"w": g.W},
        "float[N, 3] u, float[N, 16] x",
        feeds={"x": (4, 16), "u": (4, 3)},
    ),
    "Conv 1-D": convolution(random(8, 4, 3), g.B, 2, 4, 16),
    "Conv 3-D": convolution(random(8, 4, 2, 2, 2), g.B, 2, 4, 5, 5, 5),
    "Conv grouped": convolution(random(8, 2, 3, 3), g.B, 2, 4, 8, 8, attributes="group = 2"),
    "Conv depthwise": convolution(random(4, 1, 3, 3), None, 2, 4, 8, 8, attributes="group = 4"),
    "Conv dilated": convolution(
        g.CONV, g.B, 2, 4, 8, 8, attributes="dilations = [2, 2], pads = [0, 1, 2, 0]"
    ),
    "Conv auto_pad": convolution(
        g.CONV, g.B, 2, 4, 8, 8, attributes='auto_pad = "SAME_UPPER", strides = [2, 2]'
    ),
    "Conv bias computed": Case(
        "s = ReduceMean <keepdims = 0> (x, n)  c = Conv (x, w, s)  y = Relu (c)",
        {"w": random(4, 4, 3, 3), "n": g.ints(0, 2, 3)},
        outputs="float[N, 4, 6, 6] y",
        inputs="float[N, 4, 8, 8] x",
        feeds=g.IMAGE,
    ),
    "ConvTranspose": convolution(random(4, 8, 3, 3), g.B, 2, 4, 8, 8, op="ConvTranspose"),
    "ConvTranspose grouped": convolution(
        random(4, 3, 3, 3),
        random(6),
        2,
        4,
        8,
        8,
        op="ConvTranspose",
        attributes="group = 2, strides = [2, 2]",
    ),
    "Gemm transB": gemm("transB = 1", g.W.T.copy(), g.B),
    "Gemm transA": Case(
        "y = Gemm <transA = 1> (x, w)", {"w": random(4, 8)}, "float[4, 16] x", "float[16, 8] y"
    ),
    "Gemm alpha": gemm("alpha = 0.5, beta = 0.25", g.W, g.B),
    "Gemm bias [1, N]": gemm("", g.W, g.B[None]),
    "Gemm bias [1, 1]": gemm("", g.W, np.full((1, 1), 3, np.float32)),
    "Gemm bias scalar": gemm("transB = 1", g.W.T.copy(), g.number(3)),
    "Gemm bias [M, N]": gemm("", g.W, random(4, 8)),
    "Gemm without bias": gemm("", g.W, None),
    "MatMul of 1-D weight": product(random(16), "N, 16", "N", 4, 16),
    "MatMul of 1-D input": product(g.W, "16", "8", 16),
    "MatMul of 3-D weight": product(random(3, 16, 8), "3, T, 16", "3, T, 8", 3, 4, 16),
    "MatMul K=1": product(random(1, 8), "N, 1", "N, 8", 4, 1),
    "MatMul K=0": product(random(0, 8), "N, 0", "N, 8", 4, 0),
    "MatMul N=1": product(random(16, 1), "N, 16", "N, 1", 4, 16),
    "weight on the left": Case(
        "y = MatMul (w, x)", {"w": g.W.T.copy()}, "float[16, N] x", "float[8, N] y", feeds={"x": (16, 4)}
    ),
    "float16": Case(
        "h = Cast <to = 10> (x)  m = Gemm (h, w, b)  y = Cast <to = 1> (m)",
        {"w": g.W.astype(np.float16), "b": g.B.astype(np.float16)},
    ),
    "float64": Case(
        "h = Cast <to = 11> (x)  m = MatMul (h, w)  y = Cast <to = 1> (m)", {"w": g.W.astype(np.float64)}
    ),
    "float16 table": Case(
        "e = Gather (w, x)  y = Cast <to = 1> (e)",
        {"w": random(20, 8).astype(np.float16)},
        "int64[N, T] x",
        "float[N, T, 8] y",
        feeds={"x": g.IDS},
    ),
    "weights of zeros": gemm("", np.zeros_like(g.W), g.B),
    "weights of 1e30": gemm("", g.W * np.float32(1e30), None),
    "weights of 1e-30": gemm("", g.W * np.float32(1e-30), None),
    "activations of zeros": Case("z = Mul (x, o)  y = Gemm (z, w, b)", {"w": g.W, "b": g.B, "o": g.ZERO}),
    "constant activations": Case(
        "z = Mul (x, o)  c = Add (z, t)  y = MatMul (c, w)", {"w": g.W, "o": g.ZERO, "t": g.TWO}
    ),
    "LSTM": g.recurrent("LSTM", "bidirectional", 4),
    "GRU": g.recurrent("GRU", "bidirectional", 3),
    "Concat": between("d = Concat <axis = 2> (c, k)  m = Relu (d)", k=random(2, 8, 3, 8)),
    "Slice": between("m = Slice (c, s, e, a)", s=g.ints(1), e=g.ints(7), a=g.ints(2)),
    "Split": between("m, n = Split <axis = 2, num_outputs = 2> (c)"),
    "Resize": between('m = Resize <mode = "nearest"> (c,, s)', s=np.array([1, 1, 2, 2], np.float32)),
    "Pad": between("m = Pad (c, p, v)", p=g.ints(0, 0, 1, 1, 0, 0, 1, 1), v=g.TWO),
    "MaxPool padded": between("m = MaxPool <kernel_shape = [2, 2], pads = [1, 1, 1, 1]> (c)"),
    "Add itself": between("m = Add (c, c)"),
    "Add constant": between("m = Add (k, c)", k=random(1, 8, 1, 1)),
    "Mul broadcast": between("p = GlobalAveragePool (c)  s = Sigmoid (p)  m = Mul (c, s)"),
    "Clip computed": between("n = ReduceMax <keepdims = 0> (c)  h = Mul (n, k)  m = Clip (c,, h)", k=g.HALF),
    "Clip reversed": between("m = Clip (c, a, b9)", a=g.number(1), b9=g.number(-1)),
    "Clip below the range": between("m = Clip (c,, h)", h=g.number(0.1)),
    "Clip without zero": between("m = Clip (c, a, h)", a=g.HALF, h=g.TWO),
    "Clip without bounds": between("m = Clip (c)"),
    "PRelu": between("m = PRelu (c, s)", s=np.abs(random(8, 1, 1))),
    "LeakyRelu": between("m = LeakyRelu <alpha = 0.1> (c)"),
    "read by two": between(
        "r = Relu (c)  d = Conv <pads = [1, 1, 1, 1]> (r, w2)  s = Add (d, c)  m = Relu (s)"
    ),
    "names with slashes": Case(
        g.THREE, g.THREE_CONSTANTS, names={"x": "in:0", "w": "/layer.0/w[0]", "r": "a*?", "y": "out/é 重"}
    ),
    "long names": Case(g.THREE, g.THREE_CONSTANTS, names={name: name * 3000 for name in "xwary"}),
    **{
        f"name {word}": g.collisions("{0}_" + word)
        for word in ("quantized", "scale", "zero_point", "dequantized")
    },
    **{
        f"name {word}": g.collisions("{0}_" + word)
        for word in ("unquantized", "DequantizeLinear", "row_max", "product")
    },
}
NAMES = list(CASES)


def _options() -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return options


def _signature(session: onnxruntime.InferenceSession) -> list[tuple[str, str]]:
    return [(value.name, value.type) for value in (*session.get_inputs(), *session.get_outputs())]


def _cosine(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    largest = max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    if largest == 0:
        return 1.0
    return float((a / largest) @ (b / largest) / np.linalg.norm(a / largest) / np.linalg.norm(b / largest))


@pytest.mark.parametrize("pipeline", range(len(PIPELINES)), ids=lambda index: PIPELINES[index])
@pytest.mark.parametrize("name", NAMES)
def test_what_compiles_is_right(tmp_path: Path, name: str, pipeline: int) -> None:
    case = CASES[name]
    target = TARGETS[(NAMES.index(name) + pipeline) % len(TARGETS)]
    model, feeds = case.model(), case.samples()
    result = qcompiler.compile(model, PIPELINES[pipeline], calibration=feeds, target=target, output=tmp_path)
    reference = onnxruntime.InferenceSession(model.SerializeToString(), _options())
    session = onnxruntime.InferenceSession(result.path, _options())
    kept = [
        item
        for item in _signature(reference)
        if item[0] not in case.constants or item[1] not in _listed(case)
    ]
    assert _signature(session) == kept
    for index, output in enumerate(reference.get_outputs()):
        pairs = [(reference.run(None, feed)[index], session.run(None, feed)[index]) for feed in feeds]
        assert [(a.shape, a.dtype) for a, _ in pairs] == [(b.shape, b.dtype) for _, b in pairs]
        a, b = (np.concatenate([pair[side].ravel().astype(np.float64) for pair in pairs]) for side in (0, 1))
        # Five layers of 7 bits of random weights stay above 0.99; anything structurally wrong falls below 0.9.
        assert _cosine(a, b) >= 0.98, output.name


def _listed(case: Case) -> tuple[str, ...]:
    return ("tensor(float)",) if case.listed else ()


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_an_empty_batch_runs(tmp_path: Path, pipeline: str) -> None:
    case = Case(g.THREE, g.THREE_CONSTANTS)
    result = qcompiler.compile(case.model(), pipeline, calibration=case.samples(), output=tmp_path)
    outputs = onnxruntime.InferenceSession(result.path, _options()).run(
        None, {"x": np.zeros((0, 16), np.float32)}
    )
    assert outputs[0].shape == (0, 8)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("pipeline", ["int8_dynamic", "int8_static"])
def test_weights_without_a_range_are_refused(tmp_path: Path, pipeline: str, value: float) -> None:
    weight = g.W.copy()
    weight[2, 3] = value
    case = gemm("", weight, None)
    with pytest.raises(qcompiler.QCompilerError, match=r"'w' holds NaN or infinity.*--exclude 'Gemm_0'"):
        qcompiler.compile(case.model(), pipeline, calibration=gemm("", g.W, None).samples(), output=tmp_path)


@pytest.mark.parametrize("pipeline", ["int8_dynamic", "int8_static"])
def test_weights_of_16_bits_are_quantized_too(tmp_path: Path, pipeline: str) -> None:
    case = CASES["float16"]
    result = qcompiler.compile(case.model(), pipeline, calibration=case.samples(), output=tmp_path)
    made = [item.action for report in result.passes for item in report.nodes if item.op_type == "Gemm"]
    assert made == ["quantized"]
