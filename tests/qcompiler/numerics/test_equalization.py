"""Scales of cross-layer equalization."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.numerics.equalization import LARGEST, SMALLEST, equalization_scale

RANGES = st.lists(st.floats(1e-2, 1e3), min_size=2, max_size=8)
"""A factor of 1e5 apart at most: no channel is dead (1e6 and more), no scale is cut off (1e8)."""


@given(RANGES)
def test_both_layers_get_the_same_range(first: list[float]) -> None:
    r1 = np.array(first)
    r2 = r1[::-1].copy()
    scale = equalization_scale(r1, r2)
    # Two divisions and a square root in float64.
    np.testing.assert_allclose(r1 / scale, r2 * scale, rtol=1e-12)


def test_dead_and_all_but_dead_channels_are_left_alone() -> None:
    first, second = np.array([1.0, 0.0, 1e-30, 1.0]), np.array([4.0, 1.0, 1.0, 1e-30])
    np.testing.assert_allclose(equalization_scale(first, second), [0.5, 1.0, 1.0, 1.0])


def test_scales_are_bounded_and_an_empty_layer_is_no_error() -> None:
    scale = equalization_scale(np.array([1.0, 2e-6]), np.array([1e-9, 1e-9]))
    assert (scale >= SMALLEST).all()
    assert (scale <= LARGEST).all()
    assert equalization_scale(np.zeros(0), np.zeros(0)).shape == (0,)
