"""Coordinate descent: never worse, ends where no code can be bettered alone, keeps scales as they are stored."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.numerics.formats.affine import Affine
from qcompiler.numerics.formats.base import Float32, Format
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.numerics.refine import refine


def normal(rows: int, columns: int, seed: int) -> Float32:
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def correlated(rows: int, seed: int) -> Float32:
    """X'X of inputs that share a few factors, and 1 % of its mean on the diagonal."""
    inputs = normal(4 * rows, 5, seed) @ normal(5, rows, seed + 1) + np.float32(0.3) * normal(
        4 * rows, rows, seed
    )
    gram = inputs.T @ inputs / len(inputs)
    damped: Float32 = (gram + 0.01 * gram.diagonal().mean() * np.eye(rows)).astype(np.float32)
    return damped


def output_error(error: Float32, gram: Float32) -> float:
    wide = error.astype(np.float64)
    return float(np.einsum("kn,kj,jn->", wide, gram, wide))


@given(
    rows=st.integers(2, 300),
    size=st.sampled_from([None, 16, 48, 160]),
    bits=st.sampled_from([2, 3, 4]),
    symmetric=st.booleans(),
    seed=st.integers(0, 1000),
)
@settings(max_examples=40, deadline=None)
def test_the_error_falls_with_every_sweep(
    rows: int, size: int | None, bits: int, symmetric: bool, seed: int
) -> None:
    target, gram, fmt = normal(rows, 4, seed), correlated(rows, seed + 3), Affine(bits, size, symmetric)
    grid = fmt.fit(target)
    codes = fmt.encode(target, grid)
    errors = []
    for sweeps in range(4):
        found, fitted = refine(target, gram, codes, grid, fmt, sweeps=sweeps)
        errors.append(output_error(target - fmt.decode(found, fitted), gram))
        # Scales stay what 16 bits hold, offsets what scale and zero point make.
        np.testing.assert_array_equal(fitted.scale, fitted.scale.astype(np.float16).astype(np.float32))
        if fitted.zero_point is not None:
            np.testing.assert_array_equal(fitted.offset, fitted.scale * fitted.zero_point)
    # Errors are sums in float32 that cancel to a hundredth of their terms.
    assert all(later <= earlier * (1 + 1e-4) for earlier, later in itertools.pairwise(errors))
    assert errors[0] == output_error(target - fmt.decode(codes, grid), gram)


def test_it_ends_where_no_code_can_be_bettered_alone() -> None:
    """The residual that it carries along is that of a fresh product: blocks and groups do not matter."""
    target, gram, fmt = normal(200, 4, 1), correlated(200, 2), Affine(3, 48)
    grid = fmt.fit(target)
    codes, fitted = refine(target, gram, fmt.encode(target, grid), grid, fmt, sweeps=50)
    values = fmt.decode(codes, fitted)
    best = output_error(target - values, gram)
    assert fitted.offset is not None
    for row in range(0, 200, 7):
        for step in (-1, 1):
            other = codes.copy()
            other[row] = np.clip(other[row].astype(int) + step, 0, 7)
            changed = fmt.decode(other, fitted)
            for column in range(4):
                one = values.copy()
                one[:, column] = changed[:, column]
                assert output_error(target - one, gram) >= best * (1 - 1e-5)  # float32 residuals


@pytest.mark.parametrize("name", ["nf4", "mxfp4", "nvfp4", "fp8", "ternary"])
def test_every_format_can_be_refined(name: str) -> None:
    target, gram = normal(128, 6, 1), correlated(128, 2)
    fmt: Format = format_of(name)
    grid = fmt.fit(target)
    codes = fmt.encode(target, grid)
    found, fitted = refine(target, gram, codes, grid, fmt, sweeps=3)
    plain, ours = (
        output_error(target - fmt.decode(*each), gram) for each in ((codes, grid), (found, fitted))
    )
    assert ours < 0.8 * plain  # rounding to nearest leaves most of what the shared factors allow
    if grid.parts:
        assert fitted is grid
