"""AWQ: errors are those of samples, scales never make them larger, clipping never a group's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.numerics.awq import output_error, search_clip, search_scales
from qcompiler.numerics.formats.affine import Affine
from qcompiler.numerics.formats.base import Float32, Format, Search


def normal(rows: int, columns: int, seed: int) -> Float32:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def inputs_with_outliers(channels: int, seed: int) -> Float32:
    """``[256, channels]``: every eighth channel ten times as large."""
    return normal(256, channels, seed) * np.where(np.arange(channels) % 8 == 3, 10, 1).astype(np.float32)


def gram_of(inputs: Float32) -> Float32:
    gram: Float32 = inputs.T @ inputs / np.float32(len(inputs))
    return gram


def rounded(weight: Float32, fmt: Format) -> Float32:
    grid = fmt.fit(weight)
    return fmt.decode(fmt.encode(weight, grid), grid)


def test_the_error_is_that_of_the_samples() -> None:
    inputs, error = inputs_with_outliers(24, 1), normal(24, 8, 2)
    measured = float(np.square(inputs @ error).sum(axis=1).mean())
    assert output_error(error, gram_of(inputs)) == pytest.approx(measured, rel=1e-5)  # float32 sums


@given(seed=st.integers(0, 1000), bits=st.sampled_from([3, 4]), search=st.sampled_from(list(Search)[:2]))
@settings(max_examples=15, deadline=None)
def test_scales_lower_the_error_they_say_they_lower(seed: int, bits: int, search: Search) -> None:
    inputs, fmt = inputs_with_outliers(32, seed), Affine(bits, 16)
    weights = [normal(32, 24, seed + 1), normal(32, 8, seed + 2)]
    found = search_scales(weights, gram_of(inputs), fmt, search=search, steps=8)
    assert found.after <= found.before
    assert (found.scales > 0).all()
    if search is not Search.MINMAX:
        return
    column = found.scales[:, np.newaxis]
    errors = [
        np.square(inputs @ (weight - rounded(weight * column, fmt) / column)).sum()
        / np.square(inputs @ weight).sum()
        for weight in weights
    ]
    assert np.mean(errors) == pytest.approx(found.after, rel=1e-3)  # float32 sums, by Gram and by sample


def test_channels_that_the_inputs_use_much_are_scaled_up() -> None:
    inputs = inputs_with_outliers(64, 5)
    found = search_scales([normal(64, 128, 6)], gram_of(inputs), Affine(4, 32))
    assert found.after < 0.8 * found.before  # an eighth of the channels makes 93 % of the error
    large = np.arange(64) % 8 == 3
    assert found.scales[large].min() > found.scales[~large].max()


def test_inputs_that_are_never_used_keep_one() -> None:
    inputs = inputs_with_outliers(32, 5)
    inputs[:, 7] = 0
    assert search_scales([normal(32, 16, 6)], gram_of(inputs), Affine(4, 16)).scales[7] == 1
    nothing = search_scales([normal(32, 16, 6)], np.zeros((32, 32), np.float32), Affine(4, 16))
    np.testing.assert_array_equal(nothing.scales, np.ones(32, np.float32))


def test_tied_channels_get_one_scale() -> None:
    ties = np.repeat(np.arange(8), 4)
    inputs = inputs_with_outliers(32, 5) * (1 + np.arange(32) // 16 * np.float32(5))
    scales = search_scales([normal(32, 16, 6)], gram_of(inputs), Affine(4, 16), ties=ties).scales
    assert len(np.unique(scales)) > 1
    for tie in range(8):
        assert len(np.unique(scales[ties == tie])) == 1


@given(seed=st.integers(0, 1000), rows=st.sampled_from([32, 40]), group=st.sampled_from([None, 16]))
@settings(max_examples=15, deadline=None)
def test_clipping_raises_no_groups_error_and_no_weight(seed: int, rows: int, group: int | None) -> None:
    weights, fmt = normal(rows, 8, seed) ** 3, Affine(3, group)
    gram = gram_of(inputs_with_outliers(rows, seed))
    clipped = search_clip(weights, gram, fmt)
    assert (np.abs(clipped) <= np.abs(weights)).all()
    size = group or rows
    for start in range(0, rows, size):
        part = slice(start, start + size)
        plain, ours = (weights[part] - rounded(each[part], fmt) for each in (weights, clipped))
        before, after = (np.einsum("kn,kj,jn->n", error, gram[part, part], error) for error in (plain, ours))
        assert (after <= before * (1 + 1e-4) + 1e-6).all()  # float32 sums
    assert (clipped != weights).any()
