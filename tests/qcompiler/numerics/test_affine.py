"""Affine quantization: what holds for every range, value and code type."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from qcompiler.numerics.affine import (
    SMALLEST_SCALE,
    affine_parameters,
    along_axis,
    dequantize,
    quantize,
    symmetric_parameters,
)

RANGES = st.sampled_from([(0, 255), (-128, 127), (0, 127), (-8, 7)])
FINITE = st.floats(-1e6, 1e6, width=32)
FLOATS = arrays(np.float32, st.integers(1, 40), elements=FINITE)


@given(low=FINITE, high=FINITE, code_range=RANGES)
def test_scale_is_positive_and_zero_has_an_exact_code(
    low: float, high: float, code_range: tuple[int, int]
) -> None:
    scale, zero_point = affine_parameters(low, high, code_range)
    assert scale >= SMALLEST_SCALE
    assert code_range[0] <= zero_point <= code_range[1]
    codes = quantize(np.zeros(1, np.float32), scale, zero_point, code_range)
    assert dequantize(codes, scale, zero_point)[0] == 0.0


@given(x=FLOATS, code_range=RANGES)
def test_a_round_trip_inside_the_range_is_off_by_half_a_scale_at_most(
    x: np.ndarray, code_range: tuple[int, int]
) -> None:
    scale, zero_point = affine_parameters(float(x.min()), float(x.max()), code_range)
    back = dequantize(quantize(x, scale, zero_point, code_range), scale, zero_point)
    # Half a step of rounding; at the two ends the rounded zero point may cut off half a step more.  The rest is
    # float32: a value of n steps is divided and multiplied with a relative error of 2**-24 each.
    inside = np.abs(x / scale + zero_point - np.clip(x / scale + zero_point, *code_range)) == 0
    slack = 0.5 + 2**-22 * 256
    assert np.all(np.abs(back - x)[inside] <= slack * scale)
    assert np.all(np.abs(back - x) <= (slack + 0.5) * scale)


@given(x=FLOATS, low=FINITE, high=FINITE, code_range=RANGES)
def test_codes_stay_in_range_and_are_monotonic(
    x: np.ndarray, low: float, high: float, code_range: tuple[int, int]
) -> None:
    codes = quantize(np.sort(x), *affine_parameters(low, high, code_range), code_range)
    assert codes.min() >= code_range[0]
    assert codes.max() <= code_range[1]
    assert np.all(np.diff(codes) >= 0)


@given(codes=arrays(np.int32, 20, elements=st.integers(0, 255)), high=st.floats(2**-10, 1e6, width=32))
def test_codes_survive_a_round_trip(codes: np.ndarray, high: float) -> None:
    scale, zero_point = affine_parameters(-high / 3, high, (0, 255))
    again = quantize(dequantize(codes, scale, zero_point), scale, zero_point, (0, 255))
    np.testing.assert_array_equal(again, codes)


@given(bound=FINITE, code_range=RANGES)
def test_symmetric_ranges_hold_both_ends(bound: float, code_range: tuple[int, int]) -> None:
    scale, zero_point = symmetric_parameters(bound, code_range)
    assert scale >= SMALLEST_SCALE
    assert zero_point == (code_range[0] + code_range[1] + 1) // 2
    ends = np.array([-abs(bound), abs(bound)], np.float32)
    back = dequantize(quantize(ends, scale, zero_point, code_range), scale, zero_point)
    # The bound is a whole number of steps up to the rounding of the scale to float32.
    np.testing.assert_allclose(back, ends, rtol=1e-5, atol=SMALLEST_SCALE * 256)


def test_rounding_is_half_to_even_and_saturates() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 300, -300], np.float32)
    np.testing.assert_array_equal(quantize(x, 1.0, 0, (-128, 127)), [0, 2, 2, 0, -2, 127, -128])


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_along_axis_broadcasts_along_that_axis_alone(axis: int) -> None:
    array = np.ones((3, 4, 5))
    vector = np.arange(array.shape[axis])
    product = np.moveaxis(array * along_axis(vector, axis, 3), axis, -1)
    np.testing.assert_array_equal(product, np.broadcast_to(vector, product.shape))
