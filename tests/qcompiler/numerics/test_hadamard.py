"""Hadamard matrices and what turning by them does."""

from __future__ import annotations

import numpy as np
import pytest

from qcompiler.numerics.hadamard import block_size, hadamard_matrix, rotated_rows, rotation_errors
from qcompiler.numerics.smoothing import Codes


@pytest.mark.parametrize("size", [2, 16, 64])
def test_entries_are_the_parity_of_common_ones(size: int) -> None:
    expected = [[(-1.0) ** (i & j).bit_count() / np.sqrt(size) for j in range(size)] for i in range(size)]
    np.testing.assert_allclose(hadamard_matrix(size), expected, rtol=1e-7)  # rounded to float32


def test_is_its_own_inverse() -> None:
    matrix = np.random.default_rng(0).standard_normal((96, 5)).astype(np.float32)
    # Two sums of 32 float32 products.
    np.testing.assert_allclose(rotated_rows(rotated_rows(matrix, 32), 32), matrix, atol=2e-6)


@pytest.mark.parametrize(
    ("channels", "largest", "expected"),
    [(384, 64, 64), (384, 4096, 128), (48, 64, 16), (24, 64, 0), (16, 16, 16)],
)
def test_block_divides_the_channels(channels: int, largest: int, expected: int) -> None:
    assert block_size(channels, largest) == expected


def test_error_falls_where_a_channel_is_loud_and_only_there() -> None:
    random = np.random.default_rng(0)
    rows, weight = random.standard_normal((64, 128)).astype(np.float32), random.standard_normal((128, 9))
    weights = [weight.astype(np.float32)]
    before, after = rotation_errors(rows, weights, Codes(), 64)
    assert after > 0.7 * before  # normal numbers stay normal numbers
    rows[:, 3] *= 50
    before, after = rotation_errors(rows, weights, Codes(), 64)
    # The range falls by nearly sqrt(64), the error by its square: what the weight's rounding adds is left.
    assert after < 0.2 * before
