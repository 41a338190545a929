"""Casts keep values, or are refused."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from qcompiler.data.casts import CastRefusedError, cast_values
from qcompiler.data.feeds import Array


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([-(2**24), 2**24]), np.float32),
        (np.array([2**53]), np.float64),
        (np.array([-2048, 2048]), np.float16),
        (np.array([256]), ml_dtypes.bfloat16),
        (np.array([0, 255]), np.uint8),
        (np.array([-8, 7]), ml_dtypes.int4),
        (np.array([0, 1]), np.bool_),
        (np.array([True]), np.float32),
        (np.array([], np.int64), np.int8),
    ],
)
def test_values_that_fit_are_kept(values: Array, dtype: type) -> None:
    cast = cast_values(values, np.dtype(dtype))
    assert cast.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(cast.astype(np.int64), values.astype(np.int64))


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (np.array([2**24 + 1]), np.float32),
        (np.array([2**63 - 1]), np.float64),
        (np.array([2049]), np.float16),
        (np.array([-1]), np.uint64),
        (np.array([2**64 - 1], np.uint64), np.int64),
        (np.array([8]), ml_dtypes.int4),
        (np.array([2]), np.bool_),
        (np.array([70_000.0]), np.float16),
        (np.array([1e39]), np.float32),
        (np.array([1e39 + 0j]), np.complex64),
        (np.array([1.0]), np.int64),
        (np.array(["1"]), np.float32),
    ],
)
def test_values_that_would_change_are_refused(values: Array, dtype: type) -> None:
    with pytest.raises(CastRefusedError):
        cast_values(values, np.dtype(dtype))


def test_floats_are_rounded_to_nearest_and_infinity_stays() -> None:
    cast = cast_values(np.array([0.1, np.inf, np.nan]), np.dtype(np.float32))
    np.testing.assert_array_equal(cast, np.array([0.1, np.inf, np.nan], np.float32))
