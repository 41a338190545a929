"""Products with weights of few bits against NumPy: every variant, width and kind of level, odd shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.epilogue import Epilogue, pack_channels
from qcompiler.backends.tvm.kernels.functions import Function
from qcompiler.backends.tvm.kernels.gemm_low_bit import (
    GemmLowBit,
    gemm_low_bit,
    pack,
    pack_groups,
    pack_table,
)
from qcompiler.backends.tvm.kernels.tiling import Tile
from tests.backends.tvm.kernels.running import Runner, variant_cases

pytestmark = pytest.mark.tvm

CHANNELS, DEPTH, GROUP = 41, 83, 32
"""A tile of two blocks and a block of 9 channels; two whole groups and one of 19 weights."""

TILE = Tile(2, 2)
GROUPS = -(-DEPTH // GROUP)
Floats = npt.NDArray[np.float32]

NF4 = np.array([-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127])
FP4_DOUBLED = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12])


def quantized(x: Floats, group: int = GROUP) -> npt.NDArray[np.float64]:
    """Activations rounded to int8 per row and group, as floats."""
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % group))).reshape(len(x), -1, group)
    scale = np.abs(padded).max(-1, keepdims=True) / np.float32(127)
    scale = np.where(scale > 0, scale, np.float32(1))
    values = np.rint(padded / scale) * scale.astype(np.float64)
    return np.asarray(values.reshape(len(x), -1)[:, : x.shape[1]])


def case(bits: int, seed: int = 0) -> tuple[npt.NDArray[np.uint8], Floats, Floats]:
    random = np.random.default_rng(seed)
    codes = random.integers(0, 1 << bits, (DEPTH, CHANNELS)).astype(np.uint8)
    scale, minimum = random.uniform(0.01, 0.1, (2, GROUPS, CHANNELS)).astype(np.float32)
    return codes, scale, minimum


def activations(rows: int) -> Floats:
    return np.random.default_rng(rows).normal(0.2, 1.0, (rows, DEPTH)).astype(np.float32)


def per_row_of_weight(values: Floats) -> npt.NDArray[np.float64]:
    return np.repeat(values.astype(np.float64), GROUP, axis=0)[:DEPTH]


def close(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> None:
    """Sums within a group are exact; scales and the sum over groups are float32."""
    np.testing.assert_allclose(actual, expected, rtol=3e-6, atol=3e-6 * np.abs(expected).max())


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_codes_around_an_offset(variant: Variant, bits: int) -> None:
    offset = 1 << (bits - 1)
    codes, scale, _ = case(bits)
    run = Runner(gemm_low_bit(GemmLowBit(CHANNELS, DEPTH, bits, GROUP, variant, offset, tile=TILE)), variant)
    weight = (codes.astype(np.float64) - offset) * per_row_of_weight(scale)
    for rows in (1, 2, 3, 4, 5):
        x = activations(rows)
        actual = run(x, pack(codes, bits, GROUP), pack_groups(scale), shape=(rows, CHANNELS))
        close(actual, quantized(x) @ weight)


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("levels", [NF4, FP4_DOUBLED, np.array([-1, 0, 1])], ids=["nf4", "fp4", "ternary"])
def test_levels_of_a_table(variant: Variant, levels: npt.NDArray[np.int64]) -> None:
    bits, offset = (2, 1) if len(levels) < 16 else (4, -int(levels.min()))
    codes, scale, _ = case(bits)
    codes %= len(levels)
    spec = GemmLowBit(CHANNELS, DEPTH, bits, GROUP, variant, offset, table=True, tile=TILE)
    table = pack_table((levels + offset).astype(np.uint8))
    x = activations(3)
    actual = Runner(gemm_low_bit(spec), variant)(
        x, pack(codes, bits, GROUP), pack_groups(scale), table, shape=(3, CHANNELS)
    )
    close(actual, quantized(x) @ (levels[codes] * per_row_of_weight(scale)))


@pytest.mark.parametrize("variant", variant_cases())
def test_minimum_of_every_group_and_an_epilogue(variant: Variant) -> None:
    """Zero points are minima too: scale * zero_point."""
    codes, scale, minimum = case(4)
    epilogue = Epilogue(bias=True, function=Function.SILU, residual=True)
    spec = GemmLowBit(CHANNELS, DEPTH, 4, GROUP, variant, minimum=True, epilogue=epilogue, tile=TILE)
    x, bias = activations(3), np.linspace(-1, 1, CHANNELS, dtype=np.float32)
    residual = np.ones((3, CHANNELS), np.float32)
    arrays: list[np.ndarray] = [
        pack(codes, 4, GROUP),
        pack_groups(scale),
        pack_groups(minimum),
        pack_channels(bias),
        residual,
    ]
    actual = Runner(gemm_low_bit(spec), variant)(x, *arrays, shape=(3, CHANNELS))
    weight = codes * per_row_of_weight(scale) - per_row_of_weight(minimum)
    value = quantized(x) @ weight + bias
    close(actual, value / (1 + np.exp(-value)) + residual)


def test_rows_of_zeros_stay_zero() -> None:
    codes, scale, _ = case(4)
    run = Runner(
        gemm_low_bit(GemmLowBit(CHANNELS, DEPTH, 4, GROUP, Variant.PLAIN, 8, tile=TILE)), Variant.PLAIN
    )
    x = np.zeros((2, DEPTH), np.float32)
    assert not run(x, pack(codes, 4, GROUP), pack_groups(scale), shape=(2, CHANNELS)).any()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_pack_puts_the_first_step_lowest(bits: int) -> None:
    codes, _, _ = case(bits)
    packed = pack(codes, bits, GROUP)
    steps = 8 // bits
    assert packed.shape == (3, GROUPS * GROUP // (4 * steps), 64)
    n, k = 35, 61
    byte = packed[n // 16, k // (4 * steps), n % 16 * 4 + k % 4]
    assert (byte >> (bits * (k // 4 % steps))) & ((1 << bits) - 1) == codes[k, n]
