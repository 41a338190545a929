"""uint8 x int8 convolution against NumPy and ONNX Runtime: every variant, every awkward shape, all that can follow."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.conv_epilogue import Codes, ConvEpilogue, Numbers
from qcompiler.backends.tvm.kernels.conv_int8 import ConvInt8, conv_int8, pack, pack_weight
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.conv_tiling import ConvTile
from qcompiler.backends.tvm.kernels.functions import Function
from tests.backends.tvm.kernels.convolving import IMAGES, SHAPES, convolve, result_shape
from tests.backends.tvm.kernels.running import RUNNABLE, Runner, variant_cases

pytestmark = pytest.mark.tvm

X = Codes(0.03, 113)
Y = Codes(0.2, 90)
FASTEST = RUNNABLE[0]


class Layer:
    """A shape with codes, weights and bias."""

    def __init__(self, shape: ConvShape, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.shape = shape
        self.x = random.integers(0, 256, (IMAGES, shape.height, shape.width, shape.channels)).astype(np.uint8)
        self.weight = random.integers(-128, 128, (shape.filters, shape.depth, *shape.kernel)).astype(np.int8)
        self.w_scale = random.uniform(1e-3, 1e-2, shape.filters).astype(np.float32)
        self.bias = random.normal(0, 2, shape.filters).astype(np.float32)

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        return np.float32(X.scale) * self.w_scale

    def value(self) -> npt.NDArray[np.float64]:
        exact = convolve(self.x.astype(np.int64) - X.zero_point, self.weight, self.shape)
        return exact * self.scale + self.bias

    def run(self, spec: ConvInt8, numbers: Numbers, *more: Any) -> npt.NDArray[Any]:
        kernel = Runner(conv_int8(spec), spec.variant)
        dtype = "uint8" if spec.epilogue.codes_out else "float32"
        arrays = pack(spec, self.weight, X.zero_point, numbers)
        return kernel(self.x, *arrays, *more, shape=result_shape(self.shape), dtype=dtype)


def to_codes(value: npt.NDArray[np.float64], codes: Codes) -> npt.NDArray[np.float64]:
    return np.asarray(np.clip(np.rint(value / codes.scale) + codes.zero_point, 0, 255))


def same_codes(actual: npt.NDArray[Any], expected: npt.NDArray[np.float64]) -> None:
    """Float32 against float64 may differ by one right at a tie."""
    assert np.abs(actual - expected).max() <= 1
    assert (actual == expected).mean() > 0.998


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        pytest.param(*case.values, name, marks=case.marks)
        for case in variant_cases()
        for name in (SHAPES if case.values[0] in (FASTEST, Variant.PLAIN) else ["padded", "groups"])
    ],
)
def test_float_result(variant: Variant, name: str) -> None:
    layer = Layer(SHAPES[name])
    actual = layer.run(ConvInt8(layer.shape, variant), Numbers(layer.scale, layer.bias))
    expected = layer.value()
    # the sum is exact; its scale and the bias are two float32 roundings
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("variant", variant_cases())
def test_codes_with_relu(variant: Variant) -> None:
    layer = Layer(SHAPES["padded"])
    numbers = Numbers(layer.scale, layer.bias, clip=(0.0, 6.0), result=Y)
    actual = layer.run(ConvInt8(layer.shape, variant, ConvEpilogue(clip=True, codes_out=True)), numbers)
    same_codes(actual, to_codes(np.clip(layer.value(), 0, 6), Y))
    assert actual.min() == Y.zero_point


@pytest.mark.parametrize("variant", variant_cases())
def test_residual_of_codes_after_rounding(variant: Variant) -> None:
    """As a residual block of a QDQ graph: conv, quantize, add, ReLU, quantize."""
    layer = Layer(SHAPES["pointwise"])
    middle, other, result = Codes(0.3, 120), Codes(0.25, 7), Codes(0.4, 3)
    numbers = Numbers(
        layer.scale, layer.bias, rounded=middle, residual=other, clip_after=(0.0, np.inf), result=result
    )
    spec = ConvInt8(layer.shape, variant, ConvEpilogue(rounded=True, residual="codes", codes_out=True))
    residual = np.random.default_rng(1).integers(0, 256, result_shape(layer.shape)).astype(np.uint8)
    actual = layer.run(spec, numbers, residual)
    value = (to_codes(layer.value(), middle) - middle.zero_point) * middle.scale
    added = value + (residual.astype(np.float64) - other.zero_point) * other.scale
    expected = to_codes(np.maximum(added, 0), result)
    assert np.abs(actual - expected).max() <= 1
    # the scales are round numbers, so sums of two codes often lie right at a tie
    assert (actual == expected).mean() > 0.9


@pytest.mark.parametrize("codes_out", [False, True])
def test_function_and_float_residual(codes_out: bool) -> None:
    layer = Layer(SHAPES["groups"])
    residual = np.random.default_rng(1).normal(0, 3, result_shape(layer.shape)).astype(np.float32)
    epilogue = ConvEpilogue(function=Function.SILU, residual="float", codes_out=codes_out)
    numbers = Numbers(layer.scale, layer.bias, result=Y if codes_out else Codes(1.0, 0))
    actual = layer.run(ConvInt8(layer.shape, FASTEST, epilogue), numbers, residual)
    value = layer.value()
    expected = value / (1 + np.exp(-value)) + residual
    if codes_out:
        same_codes(actual, to_codes(expected, Y))
        return
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)  # exp to 2 ulp, and float32 sums


@pytest.mark.parametrize(
    ("name", "tiles"),
    [
        ("pointwise", [ConvTile(3, 2, 3, 2), ConvTile(4, 2, 2, 1, 15)]),
        ("padded", [ConvTile(4, 1, 2), ConvTile(2, 1, 9)]),
        ("groups", [ConvTile(7, 3, 1, 3)]),
    ],
)
def test_result_does_not_depend_on_the_tile(name: str, tiles: list[ConvTile]) -> None:
    layer = Layer(SHAPES[name])
    epilogue, numbers = ConvEpilogue(codes_out=True), Numbers(layer.scale, layer.bias, result=Y)
    expected = layer.run(ConvInt8(layer.shape, FASTEST, epilogue), numbers)
    for tile in tiles:
        actual = layer.run(ConvInt8(layer.shape, FASTEST, epilogue, tile), numbers)
        np.testing.assert_array_equal(actual, expected)


def test_result_does_not_depend_on_threads() -> None:
    """A shape large enough to be computed in parallel."""
    layer = Layer(ConvShape(20, 20, 32, 48, (3, 3), pads=(1, 1, 1, 1)))
    assert layer.shape.products > 1_000_000
    spec = ConvInt8(layer.shape, FASTEST, ConvEpilogue(codes_out=True))
    actual = layer.run(spec, Numbers(layer.scale, layer.bias, result=Y))
    same_codes(actual, to_codes(layer.value(), Y))


def test_against_onnx_runtime() -> None:
    """``QLinearConv`` on the same codes."""
    import onnx
    import onnxruntime

    layer = Layer(SHAPES["strided, uneven pads"])
    shape = layer.shape
    bias = np.rint(layer.bias / layer.scale).astype(np.int32)
    constants = {
        "xs": np.float32(X.scale), "xz": np.uint8(X.zero_point), "w": layer.weight, "ws": layer.w_scale,
        "wz": np.zeros(shape.filters, np.int8), "ys": np.float32(Y.scale), "yz": np.uint8(Y.zero_point), "b": bias,
    }  # fmt: skip
    pads, strides, kernel = (list(given) for given in (shape.pads, shape.strides, shape.kernel))
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> graph (uint8[N,C,H,W] x) => (uint8[N,F,h,w] y) { '
        f"y = QLinearConv<kernel_shape={kernel}, strides={strides}, pads={pads}>(x,xs,xz,w,ws,wz,ys,yz,b) }}"
    )
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": layer.x.transpose(0, 3, 1, 2)})[0].transpose(0, 2, 3, 1)
    numbers = Numbers(layer.scale, (bias * layer.scale).astype(np.float32), result=Y)
    actual = layer.run(ConvInt8(shape, FASTEST, ConvEpilogue(codes_out=True)), numbers)
    same_codes(actual, expected.astype(np.float64))


def test_pack_puts_four_channels_side_by_side() -> None:
    layer = Layer(SHAPES["groups"])
    packed = pack_weight(layer.weight, 2)
    assert packed.shape == (4, 18, 64)  # two groups of two blocks; nine taps of two steps
    f, c, i, j = 37, 5, 2, 1
    group, inside = divmod(f, 20)
    step = (i * 3 + j) * 2 + c // 4
    assert packed[group * 2 + inside // 16, step, inside % 16 * 4 + c % 4] == layer.weight[f, c, i, j]
    assert packed.sum(dtype=np.int64) == layer.weight.sum(dtype=np.int64)  # padding is zero
