"""uint8 x int8 product against NumPy: every variant, odd shapes, all ways in and out."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.epilogue import Epilogue, pack_channels
from qcompiler.backends.tvm.kernels.functions import Function
from qcompiler.backends.tvm.kernels.gemm_int8 import GemmInt8, gemm_int8, pack
from qcompiler.backends.tvm.kernels.tiling import Tile
from tests.backends.tvm.kernels.running import Runner, variant_cases

pytestmark = pytest.mark.tvm

CHANNELS, DEPTH = 41, 37
"""A whole tile of blocks, and a block of 9 channels; K of 9 steps and 1."""

TILE = Tile(3, 2)
ROWS = (1, 2, 3, 5, 7)
Floats = npt.NDArray[np.float32]


def weight(seed: int = 0) -> tuple[npt.NDArray[np.int8], Floats]:
    random = np.random.default_rng(seed)
    codes = random.integers(-128, 128, (DEPTH, CHANNELS)).astype(np.int8)
    return codes, random.uniform(1e-3, 1e-2, CHANNELS).astype(np.float32)


def dynamic_range(x: Floats, axis: int | None = None) -> tuple[Any, Any]:
    """Scale and zero point of DynamicQuantizeLinear."""
    low, high = (np.minimum(x.min(axis, keepdims=True), 0), np.maximum(x.max(axis, keepdims=True), 0))
    scale = ((high - low) / np.float32(255)).astype(np.float32)
    scale = np.where(scale > 0, scale, np.float32(1))
    return scale, np.clip(np.rint(-low / scale), 0, 255)


def to_codes(x: Floats, scale: Any, zero: Any) -> npt.NDArray[np.int64]:
    return np.asarray(np.clip(np.rint(x / np.float32(scale)) + zero, 0, 255), np.int64)


def product(codes: npt.NDArray[np.int64], zero: Any, scale: Any) -> npt.NDArray[np.float64]:
    values, w_scale = weight()
    exact = (codes - np.int64(zero)) @ values.astype(np.int64)
    return np.asarray(exact * (np.float32(scale) * w_scale), np.float64)


def close(actual: Floats, expected: npt.NDArray[Any]) -> None:
    """The sum is exact; scale, bias and function are a few float32 roundings."""
    np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


def packed() -> list[npt.NDArray[Any]]:
    found = pack(*weight())
    return [found.weight, found.scale, found.total]


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("activation", ["dynamic", "rows"])
def test_dynamic_activations(variant: Variant, activation: Any) -> None:
    run = Runner(gemm_int8(GemmInt8(CHANNELS, DEPTH, variant, activation, tile=TILE)), variant)
    for rows in ROWS:
        x = np.random.default_rng(rows).normal(0.3, 2.0, (rows, DEPTH)).astype(np.float32)
        scale, zero = dynamic_range(x, 1 if activation == "rows" else None)
        close(run(x, *packed(), shape=(rows, CHANNELS)), product(to_codes(x, scale, zero), zero, scale))


@pytest.mark.parametrize("variant", variant_cases())
def test_static_activation_with_everything_after_it(variant: Variant) -> None:
    spec = GemmInt8(CHANNELS, DEPTH, variant, "static", Epilogue(True, Function.RELU, True), TILE)
    run = Runner(gemm_int8(spec), variant)
    random = np.random.default_rng(1)
    x, residual = (random.normal(0, 2, shape).astype(np.float32) for shape in ((5, DEPTH), (5, CHANNELS)))
    bias = random.normal(0, 1, CHANNELS).astype(np.float32)
    scale, zero = np.array([0.02], np.float32), np.array([100], np.int32)  # narrow: both ends saturate
    actual = run(x, scale, zero, *packed(), pack_channels(bias), residual, shape=(5, CHANNELS))
    expected = np.maximum(product(to_codes(x, 0.02, 100), 100, 0.02) + bias, 0) + residual
    close(actual, expected)


@pytest.mark.parametrize("variant", variant_cases())
def test_codes_in_and_codes_out(variant: Variant) -> None:
    run = Runner(
        gemm_int8(GemmInt8(CHANNELS, DEPTH, variant, "codes", Epilogue(codes_out=True), TILE)), variant
    )
    codes = np.random.default_rng(2).integers(0, 256, (4, DEPTH)).astype(np.uint8)
    scale, zero = np.array([0.02], np.float32), np.array([3], np.int32)
    y_scale, y_zero = np.array([0.11], np.float32), np.array([140], np.int32)
    actual = run(codes, scale, zero, *packed(), y_scale, y_zero, shape=(4, CHANNELS), dtype="uint8")
    expected = to_codes(product(codes.astype(np.int64), 3, 0.02).astype(np.float32), 0.11, 140)
    assert expected.min() == 0  # saturates at an end
    assert np.abs(actual - expected).max() <= 1  # float32 against float64 right at a tie
    assert (actual == expected).mean() > 0.98


def test_all_variants_agree_to_the_bit() -> None:
    x = np.random.default_rng(3).normal(0, 1, (3, DEPTH)).astype(np.float32)
    found = [
        Runner(gemm_int8(GemmInt8(CHANNELS, DEPTH, case.values[0], tile=TILE)), case.values[0])(
            x, *packed(), shape=(3, CHANNELS)
        )
        for case in variant_cases()
        if not case.marks[0].args[0]
    ]
    for other in found[1:]:
        # the integer sums are equal; only the float epilogue may be contracted to fused multiply-adds
        np.testing.assert_allclose(other, found[0], rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("activation", ["dynamic", "rows"])
def test_rows_of_zeros_stay_zero(activation: Any) -> None:
    variant = Variant.PLAIN
    run = Runner(gemm_int8(GemmInt8(CHANNELS, DEPTH, variant, activation, tile=TILE)), variant)
    assert not run(np.zeros((2, DEPTH), np.float32), *packed(), shape=(2, CHANNELS)).any()


def test_pack_puts_four_neighbours_of_k_side_by_side() -> None:
    codes, scale = weight()
    found = pack(codes, scale)
    assert found.weight.shape == (3, 10, 64)
    n, k = 35, 22
    assert found.weight[n // 16, k // 4, n % 16 * 4 + k % 4] == codes[k, n]
    assert found.weight.sum(dtype=np.int64) == codes.sum(dtype=np.int64)  # padding is zero
    np.testing.assert_array_equal(found.total.ravel()[:CHANNELS], codes.sum(0, dtype=np.int32))
