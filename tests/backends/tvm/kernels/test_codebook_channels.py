"""Weights that are one of 16 values of their channel, against NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.codebook_channels import CodebookChannels, codebook_channels, pack
from qcompiler.backends.tvm.kernels.epilogue import Epilogue, pack_channels
from qcompiler.backends.tvm.kernels.functions import Function
from tests.backends.tvm.kernels.running import RUNNABLE, Runner, variant_cases

pytestmark = pytest.mark.tvm

CHANNELS = 37
Floats = npt.NDArray[np.float32]


def case(depth: int, entries: int = 16) -> tuple[npt.NDArray[np.uint8], Floats]:
    random = np.random.default_rng(0)
    codes = random.integers(0, entries, (depth, CHANNELS)).astype(np.uint8)
    return codes, random.standard_normal((CHANNELS, entries), np.float32)


def expected(x: Floats, codes: npt.NDArray[np.uint8], table: Floats) -> npt.NDArray[np.float64]:
    weight = table[np.arange(CHANNELS), codes].astype(np.float64)
    return np.asarray(x.astype(np.float64) @ weight)


def rows_of(count: int, depth: int) -> Floats:
    return np.random.default_rng(count).standard_normal((count, depth), np.float32)


@pytest.mark.parametrize("variant", variant_cases())
def test_product(variant: Variant) -> None:
    """Rows that are no whole steps, and eight values a channel."""
    check(variant, 201, 8)


def test_product_of_whole_steps() -> None:
    check(RUNNABLE[0], 256, 16)


def check(variant: Variant, depth: int, entries: int) -> None:
    codes, table = case(depth, entries)
    run = Runner(codebook_channels(CodebookChannels(CHANNELS, depth, variant)), variant)
    for count in (1, 3, 5):
        x = rows_of(count, depth)
        actual = run(x, *pack(codes, table), shape=(count, CHANNELS))
        # weights are exact; 250 products are added up in float32
        np.testing.assert_allclose(actual, expected(x, codes, table), rtol=1e-5, atol=2e-5)


def test_epilogue() -> None:
    codes, table = case(130)
    spec = CodebookChannels(CHANNELS, 130, RUNNABLE[0], Epilogue(bias=True, function=Function.RELU), rows=2)
    x, bias = rows_of(3, 130), np.linspace(-1, 1, CHANNELS, dtype=np.float32)
    actual = Runner(codebook_channels(spec), spec.variant)(
        x, *pack(codes, table), pack_channels(bias), shape=(3, CHANNELS)
    )
    # as above
    np.testing.assert_allclose(actual, np.maximum(expected(x, codes, table) + bias, 0), rtol=1e-5, atol=2e-5)


def test_pack_puts_neighbours_in_neighbouring_lanes() -> None:
    codes, table = case(201)
    weight, tables = pack(codes, table)
    assert weight.shape == (12, 2, 4, 16)
    assert tables.shape == (48, 16)
    n, k = 33, 180
    word = int(weight[n // 4, k // 128, n % 4, k % 16]) & 0xFFFFFFFF
    assert word >> (4 * (k % 128 // 16)) & 15 == codes[k, n]
