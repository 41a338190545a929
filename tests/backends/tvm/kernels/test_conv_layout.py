"""Images in and out of NHWC, against NumPy's transpose: exact."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.conv_layout import LayoutChange, layout_change
from tests.backends.tvm.kernels.running import Runner, variant_cases

pytestmark = pytest.mark.tvm

SCALE, ZERO = np.array([0.05], np.float32), np.array([100], np.int32)
SIZES = {(5, 7, 3): 4, (4, 4, 16): 0, (5, 5, 21): 32, (1, 1, 40): 0}
"""And how many channels are written."""

CASES = [
    pytest.param(size, *case.values, marks=case.marks)
    for case in variant_cases()
    for size in (SIZES if case.values[0] is Variant.PLAIN else list(SIZES)[:2])
]


def image(size: tuple[int, int, int], dtype: str, *, last: bool) -> Any:
    height, width, channels = size
    shape = (2, height, width, channels) if last else (2, channels, height, width)
    random = np.random.default_rng(0)
    if dtype == "uint8":
        return random.integers(0, 256, shape).astype(np.uint8)
    return random.normal(0, 4, shape).astype(np.float32)


@pytest.mark.parametrize(("size", "variant"), CASES)
def test_quantizes_into_nhwc(size: tuple[int, int, int], variant: Variant) -> None:
    x = image(size, "float32", last=False)
    spec = LayoutChange(*size, last=True, source="float32", result="uint8", padded=SIZES[size])
    shape = (2, *size[:2], spec.written)
    actual = Runner(layout_change(spec), variant)(x, SCALE, ZERO, shape=shape, dtype="uint8")
    codes = np.clip(np.rint(x / SCALE) + 100, 0, 255).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(actual[..., : size[2]], codes)
    assert not actual[..., size[2] :].any()


@pytest.mark.parametrize(("size", "variant"), CASES)
def test_dequantizes_out_of_nhwc(size: tuple[int, int, int], variant: Variant) -> None:
    x = image(size, "uint8", last=True)
    spec = LayoutChange(*size, last=False, source="uint8", result="float32")
    actual = Runner(layout_change(spec), variant)(x, SCALE, ZERO, shape=(2, size[2], *size[:2]))
    expected = (x.astype(np.int32) - 100).astype(np.float32).transpose(0, 3, 1, 2) * SCALE
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("last", [False, True])
def test_moves_without_change(dtype: Any, last: bool) -> None:
    size = (5, 5, 21)
    x = image(size, dtype, last=not last)
    spec = LayoutChange(*size, last=last, source=dtype, result=dtype)
    moved = x.transpose(0, 2, 3, 1) if last else x.transpose(0, 3, 1, 2)
    actual = Runner(layout_change(spec), Variant.PLAIN)(x, shape=moved.shape, dtype=dtype)
    np.testing.assert_array_equal(actual, moved)


def test_many_pixels_in_parallel() -> None:
    x = image((112, 113, 8), "float32", last=False)
    spec = LayoutChange(112, 113, 8, last=True, source="float32", result="float32")
    actual = Runner(layout_change(spec), Variant.PLAIN)(x, shape=(2, 112, 113, 8))
    np.testing.assert_array_equal(actual, x.transpose(0, 2, 3, 1))
