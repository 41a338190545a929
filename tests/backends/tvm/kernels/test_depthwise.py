"""Convolution of every channel alone, of codes and floats, against NumPy."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.conv_epilogue import Codes, ConvEpilogue, Numbers
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.conv_tiling import ConvTile
from qcompiler.backends.tvm.kernels.depthwise import Depthwise, depthwise, pack
from tests.backends.tvm.kernels.convolving import IMAGES, convolve, result_shape
from tests.backends.tvm.kernels.running import RUNNABLE, Runner, variant_cases

pytestmark = pytest.mark.tvm

BASE = ConvShape(7, 9, 24, 24, (3, 3), pads=(1, 1, 1, 1), groups=24)
SHAPES = {
    "padded": BASE,
    "strided, uneven pads": replace(BASE, strides=(2, 2), pads=(0, 0, 1, 1)),
    "no pads, few channels": replace(BASE, channels=5, filters=5, groups=5, pads=(0, 0, 0, 0)),
    "dilated": replace(BASE, dilations=(2, 3), pads=(2, 3, 2, 3), channels=16, filters=16, groups=16),
    "many taps": replace(BASE, kernel=(6, 5), pads=(3, 2, 2, 2), channels=33, filters=33, groups=33),
}
X, Y = Codes(0.03, 113), Codes(0.05, 90)


class Layer:
    """A shape with codes, weights and bias."""

    def __init__(self, shape: ConvShape) -> None:
        random = np.random.default_rng(0)
        self.shape = shape
        self.x = random.integers(0, 256, (IMAGES, shape.height, shape.width, shape.channels)).astype(np.uint8)
        self.weight = random.integers(-128, 128, (shape.channels, 1, *shape.kernel)).astype(np.int8)
        self.scale = np.float32(X.scale) * random.uniform(1e-3, 1e-2, shape.channels).astype(np.float32)
        self.bias = random.normal(0, 2, shape.channels).astype(np.float32)

    def value(self) -> npt.NDArray[np.float64]:
        return (
            convolve(self.x.astype(np.int64) - X.zero_point, self.weight, self.shape) * self.scale + self.bias
        )

    def run(self, spec: Depthwise, numbers: Numbers, x: Any, weight: Any, zero: int) -> npt.NDArray[Any]:
        dtype = "uint8" if spec.epilogue.codes_out else "float32"
        arrays = pack(spec, weight, zero, numbers)
        return Runner(depthwise(spec), spec.variant)(x, *arrays, shape=result_shape(self.shape), dtype=dtype)

    def of_codes(self, spec: Depthwise, **more: Any) -> npt.NDArray[Any]:
        numbers = Numbers(self.scale, self.bias, **more)
        return self.run(spec, numbers, self.x, self.weight, X.zero_point)


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("name", SHAPES)
def test_codes(variant: Variant, name: str) -> None:
    layer = Layer(SHAPES[name])
    actual = layer.of_codes(Depthwise(layer.shape, variant, codes=True))
    expected = layer.value()
    # the sum is exact; its scale and the bias are two float32 roundings
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("variant", variant_cases())
def test_codes_to_codes_with_relu6(variant: Variant) -> None:
    layer = Layer(SHAPES["padded"])
    spec = Depthwise(layer.shape, variant, codes=True, epilogue=ConvEpilogue(clip=True, codes_out=True))
    actual = layer.of_codes(spec, clip=(0.0, 6.0), result=Y)
    expected = np.clip(np.rint(np.clip(layer.value(), 0, 6) / Y.scale) + Y.zero_point, 0, 255)
    assert np.abs(actual - expected).max() <= 1  # float32 right at a tie
    assert (actual == expected).mean() > 0.998


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("name", ["padded", "many taps"])
def test_floats(variant: Variant, name: str) -> None:
    layer = Layer(SHAPES[name])
    x, weight = layer.x.astype(np.float32) / 255, layer.weight.astype(np.float32) / 128
    spec = Depthwise(layer.shape, variant, codes=False)
    actual = layer.run(spec, Numbers(np.ones(1, np.float32), layer.bias), x, weight, 0)
    # sums of 30 products in float32
    np.testing.assert_allclose(actual, convolve(x, weight, layer.shape) + layer.bias, rtol=1e-5, atol=1e-5)


def test_result_does_not_depend_on_the_tile() -> None:
    layer, variant = Layer(SHAPES["strided, uneven pads"]), RUNNABLE[0]
    expected = layer.of_codes(Depthwise(layer.shape, variant, codes=True))
    for tile in (ConvTile(1, 1, 1), ConvTile(3, 1, 2, 2), ConvTile(4, 1, 9)):
        actual = layer.of_codes(Depthwise(layer.shape, variant, codes=True, tile=tile))
        np.testing.assert_array_equal(actual, expected)
