from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import OptionError
from qcompiler.numerics.formats.packing import (
    pack_groups,
    pack_last,
    pack_zero_points,
    unpack_groups,
    unpack_last,
)


def codes_of(seed: int, rows: int, columns: int, bits: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << bits, (rows, columns), dtype=np.uint8)


sizes = {
    "seed": st.integers(0, 99),
    "rows": st.integers(1, 150),
    "columns": st.integers(1, 20),
    "bits": st.sampled_from((2, 4, 8)),
}


@settings(max_examples=100, deadline=None)
@given(**sizes)
def test_unpack_undoes_pack(seed: int, rows: int, columns: int, bits: int) -> None:
    codes = codes_of(seed, rows, columns, bits)
    packed = pack_last(codes, bits)
    assert packed.shape == (rows, -(-columns * bits // 8))
    np.testing.assert_array_equal(unpack_last(packed, bits, columns), codes)


@settings(max_examples=100, deadline=None)
@given(group=st.sampled_from((16, 32, 64)), padding=st.integers(0, 3), **sizes)
def test_unpack_undoes_pack_of_groups(
    seed: int, rows: int, columns: int, bits: int, group: int, padding: int
) -> None:
    codes = codes_of(seed, rows, columns, bits)
    packed = pack_groups(codes, bits, group, padding=padding)
    assert packed.shape == (columns, -(-rows // group), group * bits // 8)
    np.testing.assert_array_equal(unpack_groups(packed, bits, rows), codes)
    padded = unpack_groups(packed, bits, -(-rows // group) * group)
    assert np.all(padded[rows:] == padding)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_layout_is_little_end_first(bits: int) -> None:
    codes = codes_of(1, 40, 3, bits)
    packed = pack_groups(codes, bits, 32)
    for column in range(3):
        for row in range(40):
            bit = (row % 32) * bits
            byte = packed[column, row // 32, bit // 8]
            assert (byte >> (bit % 8)) & ((1 << bits) - 1) == codes[row, column]


def test_zero_points_are_packed_per_column() -> None:
    packed = pack_zero_points(np.array([[1, 4], [2, 5], [3, 6]], np.uint8), 4)
    np.testing.assert_array_equal(packed, [[0x21, 0x03], [0x54, 0x06]])


def test_wide_matrices_are_packed_in_blocks() -> None:
    codes = codes_of(2, 512, 1000, 4)
    np.testing.assert_array_equal(unpack_groups(pack_groups(codes, 4, 128), 4, 512), codes)


def test_widths_that_do_not_divide_a_byte_are_refused() -> None:
    with pytest.raises(OptionError, match="3 bits"):
        pack_last(np.zeros((2, 8), np.uint8), 3)
    with pytest.raises(OptionError, match="whole bytes"):
        pack_groups(np.zeros((3, 2), np.uint8), 4, 3)
