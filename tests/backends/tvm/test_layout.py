"""Models of images computed with channels last, against ONNX Runtime on the graph as it was."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.compile_kernel import target_config
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.importing import convolution, graph
from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.backends.tvm.layout import lower_convolutions
from qcompiler.prepare.clean import remove_unused

pytestmark = pytest.mark.tvm

Array = npt.NDArray[Any]
HEAD = '<ir_version: 10, opset_import: ["": 21]> net'


def with_constants(text: str, constants: dict[str, Array]) -> ir.Model:
    """A graph of ONNX text, with constants registered and shapes inferred."""
    import onnx

    model = onnx.parser.parse_model(f"{HEAD} {text}")
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in constants.items()
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(model))


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def by_onnx_runtime(model: ir.Model, feeds: dict[str, Array]) -> list[Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    proto = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(proto, options, providers=["CPUExecutionProvider"])
    return [np.asarray(item) for item in session.run(None, feeds)]


def lowered(model: ir.Model) -> Counter[str]:
    """Lower in place; count operators."""
    lower_convolutions(model)
    model.graph.opset_imports.setdefault(DOMAIN, 1)
    remove_unused(model)
    return Counter(node.op_type for node in model.graph)


def run(model: ir.Model, x: Array, monkeypatch: pytest.MonkeyPatch) -> list[Array]:
    import tvm
    from tvm import relax

    from qcompiler.backends.tvm.compile_model import compile_model

    for name, converter in convolution.CONVERTERS.items():
        monkeypatch.setitem(graph.CONVERTERS, name, converter)
    imported, executable = compile_model(model, Variant.PLAIN, target_config(Variant.PLAIN))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    parameters = [tvm.runtime.tensor(tensor.numpy()) for tensor in imported.parameters]
    result = machine["main"](tvm.runtime.tensor(x), parameters)
    items = [result] if hasattr(result, "numpy") else list(result)
    return [item.numpy() for item in items]


FLOATS = """(float[N, 3, 11, 12] x) => (float[N, 16, 6, 6] early, float[N, 20] y) {
    c1 = Conv<auto_pad = "SAME_UPPER", strides = [2, 2]>(x, w1, b1)
    early = Relu(c1)
    p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1>(early)
    d = Conv<group = 16, pads = [1, 1, 1, 1]>(p, w2)
    r = Clip(d, zero, six)
    c3 = Conv<pads = [1, 1, 1, 1]>(r, w3, b3)
    a = Add(p, c3)
    g = GlobalAveragePool(a)
    s1 = Conv(g, w4)
    s = Sigmoid(s1)
    m = Mul(a, s)
    v = AveragePool<kernel_shape = [2, 2], pads = [1, 0, 0, 1]>(m)
    c5 = Conv(v, w5)
    e = GlobalMaxPool(c5)
    y = Flatten(e)
}"""


def float_network() -> ir.Model:
    constants = {
        "w1": normal(16, 3, 3, 3), "b1": normal(16), "w2": normal(16, 1, 3, 3), "w3": normal(16, 16, 3, 3) / 8,
        "b3": normal(16), "w4": normal(16, 16, 1, 1), "w5": normal(20, 16, 1, 1),
        "zero": np.array(0, np.float32), "six": np.array(6, np.float32),
    }  # fmt: skip
    return with_constants(FLOATS, constants)


def test_network_of_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = float_network(), normal(2, 3, 11, 12, seed=1)
    expected = by_onnx_runtime(model, {"x": x})
    counts = lowered(model)
    # x comes in; early and the result of the last pooling go out
    assert counts["LayoutChange"] == 3
    assert not {"Conv", "Relu", "Clip", "Add", "MaxPool"} & set(counts)
    for actual, wanted in zip(run(model, x, monkeypatch), expected, strict=True):
        # six layers of float32 sums in another order
        np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-4)


CODES = """(float[N, 3, 9, 9] x) => (float[N, 24] y) {
    xq = QuantizeLinear(x, s0, z0)
    xd = DequantizeLinear(xq, s0, z0)
    w1d = DequantizeLinear<axis = 0>(w1, ws1)
    c1 = Conv<pads = [1, 1, 1, 1]>(xd, w1d, b1)
    r1 = Relu(c1)
    q1 = QuantizeLinear(r1, s1, z1)
    d1 = DequantizeLinear(q1, s1, z1)
    w2d = DequantizeLinear<axis = 0>(w2, ws2)
    c2 = Conv<group = 8, pads = [1, 1, 1, 1], strides = [2, 2]>(d1, w2d)
    q2 = QuantizeLinear(c2, s2, z2)
    d2 = DequantizeLinear(q2, s2, z2)
    h = Slice(d1, starts, ends, axes, steps)
    f = Pad(h, pads)
    w3d = DequantizeLinear<axis = 0>(w3, ws3)
    c3 = Conv(d2, w3d, b3)
    q3 = QuantizeLinear(c3, s3, z3)
    d3 = DequantizeLinear(q3, s3, z3)
    a = Add(d3, f)
    r3 = Relu(a)
    q4 = QuantizeLinear(r3, s4, z4)
    d4 = DequantizeLinear(q4, s4, z4)
    g = GlobalAveragePool(d4)
    q5 = QuantizeLinear(g, s5, z5)
    d5 = DequantizeLinear(q5, s5, z5)
    y = Flatten(d5)
}"""


def code_network() -> ir.Model:
    random = np.random.default_rng(0)
    constants: dict[str, Array] = {
        "starts": np.array([0, 0]), "ends": np.array([99, 99]), "axes": np.array([2, 3]), "steps": np.array([2, 2]),
        "pads": np.array([0, 8, 0, 0, 0, 8, 0, 0]), "b1": normal(8), "b3": normal(24),
    }  # fmt: skip
    for index, shape in ((1, (8, 3, 3, 3)), (2, (8, 1, 3, 3)), (3, (24, 8, 1, 1))):
        constants[f"w{index}"] = random.integers(-127, 128, shape).astype(np.int8)
        constants[f"ws{index}"] = random.uniform(1e-3, 4e-3, shape[0]).astype(np.float32)
    for index, (scale, zero) in enumerate(
        [(0.0231, 128), (0.0077, 0), (0.0113, 125), (0.0191, 100), (0.0213, 0), (0.0107, 3)]
    ):
        constants[f"s{index}"] = np.array(scale, np.float32)
        constants[f"z{index}"] = np.array(zero, np.uint8)
    return with_constants(CODES, constants)


def test_network_of_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A residual block whose shortcut is subsampled, as ResNet-20 has it: nothing but integers inside."""
    model, x = code_network(), normal(3, 3, 9, 9, seed=1)
    expected = by_onnx_runtime(model, {"x": x})[0]
    counts = lowered(model)
    assert counts == {
        "LayoutChange": 2, "ConvInt8": 2, "Depthwise": 1, "Slice": 1, "Pad": 1, "Pool": 1, "Flatten": 1
    }  # fmt: skip
    actual = run(model, x, monkeypatch)[0]
    steps = np.abs(actual - expected) / 0.0107
    # one code may differ by one right at a tie, and the mean over 25 pixels hides it
    assert steps.max() < 1.01
    assert (steps > 0.5).mean() < 0.02


@pytest.mark.parametrize(
    ("text", "constants", "reason"),
    [
        ("(float[N, 4, H, W] x) => (float[N, 4, H, W] y) { y = Conv(x, w) }", True, "sizes are not known"),
        (
            "(float[N, 4, 5, 5] x, float[4, 4, 1, 1] w) => (float[N, 4, 5, 5] y) { y = Conv(x, w) }",
            False,
            "the weight is an input",
        ),
        ("(float[N, 4, 9] x) => (float[N, 4, 9] y) { y = Conv(x, v) }", True, "one axis of space"),
    ],
)
def test_leaves_alone(text: str, constants: bool, reason: str) -> None:
    given = {"w": normal(4, 4, 1, 1), "v": normal(4, 4, 1)} if constants else {}
    assert lowered(with_constants(text, given))["Conv"] == 1, reason


def test_is_idempotent() -> None:
    model = code_network()
    first = lowered(model)
    assert lowered(model) == first


def test_narrow_input_is_read_in_both_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an integer convolution with four channels, by a float one with its own three."""
    text = """(float[N, 3, 5, 5] x) => (float[N, 4, 5, 5] y) {
        q = QuantizeLinear(x, s, o)
        d = DequantizeLinear(q, s, o)
        wd = DequantizeLinear<axis = 0>(w, ws)
        a = Conv(d, wd)
        b = Conv(d, w0)
        y = Add(a, b)
    }"""
    constants: dict[str, Array] = {
        "s": np.array(0.0371, np.float32), "o": np.array(90, np.uint8), "w0": normal(4, 3, 1, 1),
        "w": np.arange(-6, 6, dtype=np.int8).reshape(4, 3, 1, 1), "ws": np.full(4, 0.1, np.float32),
    }  # fmt: skip
    model, x = with_constants(text, constants), normal(2, 3, 5, 5, seed=1)
    expected = by_onnx_runtime(model, {"x": x})[0]
    counts = lowered(model)
    assert (counts["ConvInt8"], counts["ConvFloat"]) == (1, 1)
    names = [value.name for node in model.graph for value in node.outputs]
    assert len(set(names)) == len(names)
    # a few products in float32
    np.testing.assert_allclose(run(model, x, monkeypatch)[0], expected, rtol=1e-5, atol=1e-5)


def test_concatenates_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Floats, and codes that stand for the same values."""
    text = """(float[N, 4, 5, 5] x) => (float[N, 8, 5, 5] y, uint8[N, 8, 5, 5] z) {
        a = Conv(x, w0)
        b = Relu(a)
        c = Conv(b, w0)
        y = Concat<axis = -3>(b, c)
        q = QuantizeLinear(b, s, o)
        r = QuantizeLinear(c, s, o)
        z = Concat<axis = 1>(q, r)
    }"""
    constants = {"w0": normal(4, 4, 1, 1), "s": np.array(0.0371, np.float32), "o": np.array(90, np.uint8)}
    model, x = with_constants(text, constants), normal(2, 4, 5, 5, seed=1)
    expected = by_onnx_runtime(model, {"x": x})
    assert lowered(model)["LayoutChange"] == 3
    floats, codes = run(model, x, monkeypatch)
    np.testing.assert_allclose(floats, expected[0], rtol=1e-5, atol=1e-5)  # 4 products in float32
    assert np.abs(codes.astype(int) - expected[1]).max() <= 1  # right at a tie


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("size", [7, 8])
def test_sizes_of_automatic_pads(mode: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"""(float[N, 4, {size}, {size}] x) => (float[N, 4, h, w] y) {{
        c = Conv<auto_pad = "{mode}", strides = [2, 3]>(x, w0)
        y = AveragePool<kernel_shape = [3, 2], strides = [2, 1], ceil_mode = 1, count_include_pad = 1,
                        pads = [1, 0, 1, 1]>(c)
    }}"""
    model, x = with_constants(text, {"w0": normal(4, 4, 4, 3)}), normal(2, 4, size, size, seed=1)
    expected = by_onnx_runtime(model, {"x": x})[0]
    assert lowered(model)["ConvFloat"] == 1
    # 48 products in float32
    np.testing.assert_allclose(run(model, x, monkeypatch)[0], expected, rtol=1e-5, atol=1e-5)
