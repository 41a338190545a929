"""Maximum and mean of windows against ONNX Runtime: strides, pads, what counts, whole images."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.conv_epilogue import Codes
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.pool import Pool, pack, pool
from tests.backends.tvm.kernels.convolving import IMAGES, result_shape
from tests.backends.tvm.kernels.running import RUNNABLE, Runner, variant_cases

pytestmark = pytest.mark.tvm

SHAPES = {
    "no pads": ConvShape(8, 9, 24, 24, (2, 2), (2, 2)),
    "padded": ConvShape(7, 9, 21, 21, (3, 3), (2, 1), (1, 1, 1, 1)),
    "dilated": ConvShape(9, 9, 16, 16, (2, 3), dilations=(2, 2), pads=(0, 1, 1, 0)),
    "whole image": ConvShape(7, 7, 75, 75, (7, 7)),
}
X, Y = Codes(0.03, 113), Codes(0.0213, 90)


def run(
    spec: Pool, variant: Variant, x: npt.NDArray[Any], counted: Any = (0, 0, 0, 0), codes: Any = ()
) -> npt.NDArray[Any]:
    arrays = pack(spec, counted, *codes)
    return Runner(pool(spec), variant)(x, *arrays, shape=result_shape(spec.shape), dtype=spec.result)


def by_onnx_runtime(op: str, x: npt.NDArray[Any], shape: ConvShape) -> npt.NDArray[Any]:
    import onnx
    import onnxruntime

    facts = {
        "kernel_shape": shape.kernel, "strides": shape.strides, "pads": shape.pads, "dilations": shape.dilations
    }  # fmt: skip
    name, *extra = op.split(" ")
    attributes = ", ".join([*(f"{key}={list(value)}" for key, value in facts.items()), *extra])
    graph = f"graph (float[N,C,H,W] x) => (float[N,C,h,w] y) {{ y = {name}<{attributes}>(x) }}"
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 19]> {graph}')
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(
        session.run(None, {"x": x.transpose(0, 3, 1, 2).astype(np.float32)})[0].transpose(0, 2, 3, 1)
    )


def floats(shape: ConvShape) -> npt.NDArray[np.float32]:
    size = (IMAGES, shape.height, shape.width, shape.channels)
    return np.random.default_rng(0).standard_normal(size, np.float32)


def codes(shape: ConvShape) -> npt.NDArray[np.uint8]:
    size = (IMAGES, shape.height, shape.width, shape.channels)
    return np.random.default_rng(0).integers(0, 256, size).astype(np.uint8)


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("name", ["padded", "whole image"])
def test_maximum(variant: Variant, name: str) -> None:
    shape = SHAPES[name]
    for x in (floats(shape), codes(shape)):
        expected = by_onnx_runtime("MaxPool", x, shape)
        actual = run(Pool(shape, "max", x.dtype == np.uint8), variant, x)
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("include", [0, 1])
def test_mean_of_floats(name: str, include: int) -> None:
    shape = SHAPES[name]
    expected = by_onnx_runtime(f"AveragePool count_include_pad={include}", floats(shape), shape)
    counted = shape.pads if include else (0, 0, 0, 0)
    actual = run(Pool(shape, "mean", codes=False), RUNNABLE[0], floats(shape), counted)
    # sums of up to 49 values in float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("name", ["padded", "whole image"])
def test_mean_of_codes(variant: Variant, name: str) -> None:
    shape, x = SHAPES[name], codes(SHAPES[name])
    value = (x.astype(np.float32) - X.zero_point) * np.float32(X.scale)
    expected = by_onnx_runtime("AveragePool count_include_pad=0", value, shape)
    actual = run(Pool(shape, "mean", codes=True, codes_out=True), variant, x, codes=(X, Y))
    rounded = np.clip(np.rint(expected / Y.scale) + Y.zero_point, 0, 255)
    assert np.abs(actual - rounded).max() <= 1  # float32 right at a tie
    assert (actual == rounded).mean() > 0.998
    actual = run(Pool(shape, "mean", codes=True), variant, x, codes=(X,))
    # the sum is exact; what follows is float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
