"""Float products against float64: every variant, ragged sizes, K in pieces."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.epilogue import Epilogue, pack_channels
from qcompiler.backends.tvm.kernels.float_gemm import FloatGemm, float_gemm, pack
from qcompiler.backends.tvm.kernels.functions import Function
from qcompiler.backends.tvm.kernels.tiling import Tile
from tests.backends.tvm.kernels.running import Runner, variant_cases

pytestmark = pytest.mark.tvm

CHANNELS, DEPTH = 41, 50


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("step", [16, 0])
def test_products(variant: Variant, step: int) -> None:
    random = np.random.default_rng(0)
    weight = random.normal(0, 1, (DEPTH, CHANNELS)).astype(np.float32)
    bias = random.normal(0, 1, CHANNELS).astype(np.float32)
    spec = FloatGemm(
        CHANNELS, DEPTH, variant, Epilogue(bias=True, function=Function.RELU, residual=True), Tile(3, 2), step
    )
    run = Runner(float_gemm(spec), variant)
    for rows in (1, 2, 3, 4, 8):
        x, residual = (random.normal(0, 1, (rows, n)).astype(np.float32) for n in (DEPTH, CHANNELS))
        actual = run(x, pack(weight), pack_channels(bias), residual, shape=(rows, CHANNELS))
        expected = np.maximum(x.astype(np.float64) @ weight + bias, 0) + residual
        # a sum of 50 products in float32
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


def test_pack_keeps_channels_together() -> None:
    weight = np.arange(DEPTH * CHANNELS, dtype=np.float32).reshape(DEPTH, CHANNELS)
    packed = pack(weight)
    assert packed.shape == (3, DEPTH, 16)
    assert packed[2, 7, 3] == weight[7, 35]
    assert not packed[2, :, 9:].any()
