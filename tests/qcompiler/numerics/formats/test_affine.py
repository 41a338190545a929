from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.numerics.formats.affine import Affine
from qcompiler.numerics.formats.base import Float32, Search

ROUNDING = 1e-5
"""Share of a step: |x + offset| <= 255 steps in float32 is off by at most 255 * 2**-24 steps."""

affine_formats = st.builds(
    Affine,
    bits=st.sampled_from((2, 3, 4, 8)),
    group_size=st.sampled_from((None, 16, 32, 48)),
    symmetric=st.booleans(),
)


def matrix(seed: int, rows: int, columns: int, size: float = 1.0, shift: float = 0.0) -> Float32:
    random = np.random.default_rng(seed)
    return (size * (random.standard_normal((rows, columns)) + shift)).astype(np.float32)


matrices = st.builds(
    matrix,
    seed=st.integers(0, 1000),
    rows=st.integers(1, 130),
    columns=st.integers(1, 9),
    size=st.sampled_from((1e-4, 0.03, 1.0, 300.0)),
    shift=st.sampled_from((0.0, 0.5, -3.0, 20.0)),
)


def tall(values: Float32, fmt: Affine, rows: int) -> Float32:
    return np.repeat(values, fmt.group or rows, axis=0)[:rows]


@settings(max_examples=150, deadline=None)
@given(weights=matrices, fmt=affine_formats)
def test_minmax_errs_by_half_a_step_at_most(weights: Float32, fmt: Affine) -> None:
    grid = fmt.fit(weights)
    error = np.abs(fmt.decode(fmt.encode(weights, grid), grid) - weights)
    step = np.abs(tall(grid.scale, fmt, len(weights)))
    # the short side of the ladder: a weight as large as the largest, of the other sign, is a whole step beyond it
    clipped = fmt.either_sign & (weights * np.sign(tall(grid.scale, fmt, len(weights))) > 0)
    assert np.all(error <= step * (np.where(clipped, 1.0, 0.5) + ROUNDING))


def slow_q4_0(group: Float32) -> Float32:
    """Decoded values of one group as the reference of ggml's Q4_0 has them, rounding half to even."""
    largest = max(group, key=abs)
    step = largest / -8
    if step == 0:
        return np.zeros_like(group)
    return np.array([step * min(max(round(float(x / step)), -8), 7) for x in group], np.float32)


@settings(max_examples=50, deadline=None)
@given(weights=matrices)
def test_symmetric_int4_is_q4_0(weights: Float32) -> None:
    fmt = Affine(4, 32, symmetric=True)
    decoded = fmt.decode(fmt.encode(weights, grid := fmt.fit(weights)), grid)
    for column, start in np.ndindex(weights.shape[1], -(-len(weights) // 32)):
        group = weights[32 * start : 32 * start + 32, column]
        found, expected = decoded[32 * start : 32 * start + 32, column], slow_q4_0(group)
        step = np.abs(group).max() / 8
        # a scale rounded up to float16 moves every value by up to 2**-10, or 2**-24, and some across half a step
        near = np.abs(found - expected) <= 8 * (step * 2**-10 + 2**-24)
        assert np.all(near | (np.abs(np.abs(found - expected) - step) <= 8 * (step * 2**-10 + 2**-24)))
        assert (~near).sum() <= max(1, 0.2 * near.size) or step < 2**-14  # one of a short group may cross


def test_the_largest_magnitude_takes_the_lowest_code_whatever_its_sign() -> None:
    weights = matrix(7, 64, 40)
    for bits in (2, 3, 4):
        fmt = Affine(bits, 32, symmetric=True)
        grid = fmt.fit(weights)
        codes = fmt.signed(fmt.encode(weights, grid)).reshape(2, 32, 40)
        groups = weights.reshape(2, 32, 40)
        where = np.abs(groups).argmax(axis=1)[:, np.newaxis]
        largest = np.take_along_axis(groups, where, axis=1)[:, 0]
        np.testing.assert_array_equal(np.take_along_axis(codes, where, axis=1)[:, 0], -(2 ** (bits - 1)))
        np.testing.assert_array_equal(np.sign(grid.scale), -np.sign(largest))


@pytest.mark.parametrize("bits", [2, 3])
@pytest.mark.parametrize("search", [Search.MSE, Search.HQQ, Search.K_QUANT])
def test_searches_try_both_signs(search: Search, bits: int) -> None:
    weights, fmt = matrix(8, 640, 50), Affine(bits, 32, symmetric=True)
    assert np.any(np.sign(fmt.fit(weights, search=search).scale) != np.sign(fmt.fit(weights).scale))


@pytest.mark.parametrize("group", [32, None])
def test_least_squares_of_int8_beat_other_searches(group: int | None) -> None:
    weights, fmt = matrix(10, 256, 64), Affine(8, group, symmetric=True)

    def price(search: Search) -> float:
        grid = fmt.fit(weights, search=search)
        return float(np.square(fmt.decode(fmt.encode(weights, grid), grid) - weights).sum())

    assert price(Search.MSE) <= min(price(Search.HQQ), price(Search.K_QUANT))


@pytest.mark.parametrize("search", list(Search))
def test_int8_scales_are_positive(search: Search) -> None:
    assert np.all(Affine(8, 32, symmetric=True).fit(matrix(9, 64, 50), search=search).scale > 0)


@settings(max_examples=100, deadline=None)
@given(weights=matrices, fmt=affine_formats, search=st.sampled_from(Search))
def test_decoded_codes_encode_to_themselves(weights: Float32, fmt: Affine, search: Search) -> None:
    grid = fmt.fit(weights, search=search)
    codes = fmt.encode(weights, grid)
    assert codes.dtype == np.uint8
    assert codes.max() <= fmt.largest
    np.testing.assert_array_equal(fmt.encode(fmt.decode(codes, grid), grid), codes)


@settings(max_examples=100, deadline=None)
@given(weights=matrices, fmt=affine_formats, search=st.sampled_from(Search), seed=st.integers(0, 99))
def test_searches_are_never_worse_than_minmax(
    weights: Float32, fmt: Affine, search: Search, seed: int
) -> None:
    importance = np.random.default_rng(seed).exponential(size=len(weights)).astype(np.float32)
    if search is Search.K_QUANT:
        return  # what it minimizes is weighted by the weights' own size: see test_weighting
    power = 1.0 if search is Search.HQQ and not fmt.symmetric else 2.0

    def price(chosen: Search) -> float:
        grid = fmt.fit(weights, search=chosen, importance=importance)
        error = np.abs(fmt.decode(fmt.encode(weights, grid), grid) - weights).astype(np.float64)
        return float((importance[:, np.newaxis] * error**power).sum())

    # float32 sums of up to 130 terms: 1e-5 is ten times their rounding.
    assert price(search) <= price(Search.MINMAX) * (1 + 1e-5)


@settings(max_examples=50, deadline=None)
@given(weights=matrices, fmt=affine_formats, search=st.sampled_from(Search))
def test_scales_are_held_by_float16(weights: Float32, fmt: Affine, search: Search) -> None:
    grid = fmt.fit(weights, search=search)
    assert np.all(grid.scale > 0) if not fmt.either_sign else np.all(grid.scale != 0)
    np.testing.assert_array_equal(grid.scale.astype(np.float16).astype(np.float32), grid.scale)


@settings(max_examples=50, deadline=None)
@given(weights=matrices, fmt=affine_formats)
def test_decode_is_what_dequantize_linear_computes(weights: Float32, fmt: Affine) -> None:
    grid = fmt.fit(weights)
    codes = fmt.encode(weights, grid)
    whole = codes.astype(np.int32) - fmt.middle
    if grid.zero_point is None:
        np.testing.assert_array_equal(fmt.signed(codes), whole)
    else:
        whole = codes.astype(np.int32) - tall(grid.zero_point.astype(np.float32), fmt, len(weights)).astype(
            np.int32
        )
    expected = whole.astype(np.float32) * tall(grid.scale, fmt, len(weights))
    np.testing.assert_array_equal(fmt.decode(codes, grid), expected)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("search", list(Search))
def test_constant_columns_are_exact_at_the_end_of_the_ladder(symmetric: bool, search: Search) -> None:
    weights = np.repeat(np.array([[0.0, -0.5, 1e-30, 3.0]], np.float32), 40, axis=0)
    fmt = Affine(4, 32, symmetric)
    decoded = fmt.decode(codes := fmt.encode(weights, grid := fmt.fit(weights, search=search)), grid)
    assert np.all(decoded[:, 0] == 0)
    assert codes.shape == weights.shape
    # The step is the constant over 15, 8 or 7, rounded to the 11 bits of float16.
    np.testing.assert_allclose(decoded[:, [1, 3]], weights[:, [1, 3]], rtol=2**-10)
    assert np.all(np.abs(decoded[:, 2]) <= 2**-24)


def test_weights_too_large_for_float16_scales_are_refused() -> None:
    with pytest.raises(UnsupportedError, match="float16"):
        Affine(4).fit(np.full((32, 2), 1e9, np.float32))
    with pytest.raises(UnsupportedError, match="float16"):
        Affine(4).fit(np.full((32, 2), np.nan, np.float32))


def test_result_does_not_depend_on_memory_order() -> None:
    weights = matrix(3, 200, 300)
    fmt = Affine(4, 32)
    for search in (Search.MINMAX, Search.MSE):
        expected = fmt.fit(weights, search=search)
        turned = fmt.fit(np.asfortranarray(weights), search=search)
        np.testing.assert_array_equal(expected.scale, turned.scale)
        np.testing.assert_array_equal(
            fmt.encode(weights, expected), fmt.encode(np.asfortranarray(weights), turned)
        )


def test_grid_of_a_span_is_the_grid_of_the_whole() -> None:
    weights = matrix(5, 100, 7)
    fmt = Affine(3, 32)
    whole = fmt.fit(weights, search=Search.HQQ)
    parts = [fmt.fit(weights[start : start + 32], search=Search.HQQ) for start in range(0, 100, 32)]
    np.testing.assert_array_equal(np.concatenate([part.scale for part in parts]), whole.scale)


@pytest.mark.parametrize(
    ("fmt", "bits"),
    [
        (Affine(4, 32, False), 4 + 16 / 32 + 4 / 32),
        (Affine(4, 32, True), 4.5),
        (Affine(3, 32, False), 3 + 19 / 32),
        (Affine(8, None, True), 8 + 16 / 256),
    ],
)
def test_bits_per_weight(fmt: Affine, bits: float) -> None:
    assert fmt.bits_per_weight(256, 64) == bits


def test_short_group_pays_for_a_whole_scale() -> None:
    assert Affine(4, 32, True).bits_per_weight(33, 1) == 8 * (17 + 2 * 2) / 33


def test_impossible_bits_are_refused() -> None:
    with pytest.raises(OptionError, match="5 bits"):
        Affine(5)
    with pytest.raises(OptionError, match="group of 0"):
        Affine(4, 0)
