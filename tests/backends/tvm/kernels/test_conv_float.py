"""float32 convolution against NumPy: every variant, every awkward shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.conv_epilogue import Codes, ConvEpilogue, Numbers
from qcompiler.backends.tvm.kernels.conv_float import ConvFloat, conv_float, pack
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from tests.backends.tvm.kernels.convolving import IMAGES, SHAPES, convolve, result_shape
from tests.backends.tvm.kernels.running import RUNNABLE, Runner, variant_cases

pytestmark = pytest.mark.tvm

ONE = np.ones(1, np.float32)


class Layer:
    """A shape with an input, weights and bias."""

    def __init__(self, shape: ConvShape) -> None:
        random = np.random.default_rng(0)
        self.shape = shape
        size = (IMAGES, shape.height, shape.width, shape.channels)
        self.x = random.standard_normal(size, np.float32)
        self.weight = random.standard_normal((shape.filters, shape.depth, *shape.kernel), np.float32)
        self.bias = random.standard_normal(shape.filters, np.float32)

    def value(self) -> npt.NDArray[np.float64]:
        return convolve(self.x, self.weight, self.shape) + self.bias

    def run(self, spec: ConvFloat, numbers: Numbers, *more: Any) -> npt.NDArray[Any]:
        dtype = "uint8" if spec.epilogue.codes_out else "float32"
        arrays = pack(spec, self.weight, numbers)
        kernel = Runner(conv_float(spec), spec.variant)
        return kernel(self.x, *arrays, *more, shape=result_shape(self.shape), dtype=dtype)


@pytest.mark.parametrize(
    ("variant", "name"),
    [
        pytest.param(*case.values, name, marks=case.marks)
        for case in variant_cases()
        for name in (SHAPES if case.values[0] in (RUNNABLE[0], Variant.PLAIN) else ["padded", "groups"])
    ],
)
def test_float_result(variant: Variant, name: str) -> None:
    layer = Layer(SHAPES[name])
    actual = layer.run(ConvFloat(layer.shape, variant), Numbers(ONE, layer.bias))
    # sums of up to 300 products in float32
    np.testing.assert_allclose(actual, layer.value(), rtol=1e-5, atol=3e-5)


def test_residual_and_clip() -> None:
    layer = Layer(SHAPES["padded"])
    residual = np.random.default_rng(1).standard_normal(result_shape(layer.shape), np.float32)
    spec = ConvFloat(layer.shape, RUNNABLE[0], ConvEpilogue(residual="float"))
    actual = layer.run(spec, Numbers(ONE, layer.bias, clip_after=(0.0, 4.0)), residual)
    # as above
    np.testing.assert_allclose(actual, np.clip(layer.value() + residual, 0, 4), rtol=1e-5, atol=3e-5)


def test_codes_out() -> None:
    layer, codes = Layer(SHAPES["strided, uneven pads"]), Codes(0.1, 128)
    spec = ConvFloat(layer.shape, RUNNABLE[0], ConvEpilogue(codes_out=True))
    actual = layer.run(spec, Numbers(ONE, layer.bias, result=codes))
    expected = np.clip(np.rint(layer.value() / codes.scale) + codes.zero_point, 0, 255)
    assert np.abs(actual - expected).max() <= 1  # float32 right at a tie
    assert (actual == expected).mean() > 0.998
