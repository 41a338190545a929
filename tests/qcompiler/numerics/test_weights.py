"""Symmetric weight codes: half a step, one scale per channel, and clipping that never loses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from qcompiler.numerics.affine import along_axis, dequantize
from qcompiler.numerics.weights import quantize_weight

Float32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
WEIGHTS = arrays(
    np.float32, array_shapes(min_dims=1, max_dims=4, max_side=6), elements=st.floats(-100, 100, width=32)
)
LARGEST = st.sampled_from([127, 63, 7])


def restored(codes: np.ndarray, scale: np.ndarray, axis: int | None) -> Float32:
    factor = scale if axis is None else along_axis(scale, axis, codes.ndim)
    return dequantize(codes, factor)


def squared_error(weight: Float32, largest: int, *, clip_mse: bool) -> np.ndarray:
    codes, scale = quantize_weight(weight, 0, largest, clip_mse=clip_mse)
    difference = restored(codes, scale, 0).astype(np.float64) - weight
    return np.asarray(np.square(difference).sum(axis=1))


@given(weight=WEIGHTS, largest=LARGEST, data=st.data())
def test_codes_are_symmetric_and_off_by_half_a_scale_at_most(
    weight: Float32, largest: int, data: st.DataObject
) -> None:
    axis = data.draw(st.none() | st.integers(0, weight.ndim - 1))
    codes, scale = quantize_weight(weight, axis, largest)
    assert codes.dtype == np.int8
    assert codes.shape == weight.shape
    assert scale.shape == (() if axis is None else (weight.shape[axis],))
    assert np.abs(codes.astype(np.int32)).max() <= largest
    factor = scale if axis is None else along_axis(scale, axis, weight.ndim)
    # Half a step, and float32 rounding of the division and the product (2**-24 each, of up to 127 steps).
    slack = 0.5 + 2**-22 * 128
    assert np.all(np.abs(restored(codes, scale, axis) - weight) <= slack * factor)


@given(weight=WEIGHTS)
def test_a_channel_does_not_depend_on_its_neighbours(weight: Float32) -> None:
    codes, scale = quantize_weight(weight, 0, 127)
    for index in range(weight.shape[0]):
        alone, own = quantize_weight(weight[index : index + 1], 0, 127)
        np.testing.assert_array_equal(alone[0], codes[index])
        assert own[0] == scale[index]


@given(weight=WEIGHTS)
def test_a_channel_scaled_by_a_power_of_two_keeps_its_codes(weight: Float32) -> None:
    # Subnormal numbers would round differently; powers of two are exact everywhere else.
    weight = np.where(np.abs(weight) < 1e-20, np.float32(0), weight)
    codes, scale = quantize_weight(weight, 0, 127)
    doubled, twice = quantize_weight(weight * np.float32(4), 0, 127)
    np.testing.assert_array_equal(codes, doubled)
    nonzero = np.abs(weight).reshape(weight.shape[0], -1).max(axis=1) > 0
    np.testing.assert_array_equal(twice[nonzero], scale[nonzero] * 4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), largest=LARGEST)
def test_clipping_never_has_a_larger_squared_error(seed: int, largest: int) -> None:
    generator = np.random.default_rng(seed)
    weight = generator.standard_t(3, (5, 64)).astype(np.float32)
    clipped = squared_error(weight, largest, clip_mse=True)
    plain = squared_error(weight, largest, clip_mse=False)
    # The full range is one of the candidates; the search compares in float32.
    assert np.all(clipped <= plain * (1 + 1e-5))


def test_clipping_helps_where_one_weight_sticks_out() -> None:
    weight = np.random.default_rng(0).normal(0, 1, (1, 4096)).astype(np.float32)
    weight[0, 0] = 6
    assert squared_error(weight, 7, clip_mse=True)[0] < 0.9 * squared_error(weight, 7, clip_mse=False)[0]


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_zeros_and_empty_weights_have_finite_scales(axis: int | None) -> None:
    for shape in ((3, 4), (3, 0)):
        codes, scale = quantize_weight(np.zeros(shape, np.float32), axis, 127, clip_mse=shape[1] > 0)
        assert not codes.any()
        assert np.all(np.isfinite(scale))
        assert np.all(scale > 0)
