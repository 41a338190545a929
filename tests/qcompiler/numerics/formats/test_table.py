from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.numerics.formats.base import Float32, Format, Search
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.numerics.formats.microscaling import MxFp4, NvFp4
from qcompiler.numerics.formats.rounding import nearest, rounding
from qcompiler.numerics.formats.table import NF4, Float8, Table
from qcompiler.numerics.formats.ternary import Ternary

SCALED = (
    Table("nf4", 64),
    Table("nf4", None),
    Table("fp4", 16),
    Table("nf4", 16, double_quantized=True),
    Float8(),
    Float8(32),
    MxFp4(),
    NvFp4(),
    Ternary(),
    Ternary(32),
)
formats = st.sampled_from(SCALED)


def matrix(seed: int, rows: int, columns: int, size: float) -> Float32:
    random = np.random.default_rng(seed)
    return (size * random.standard_t(4, (rows, columns))).astype(np.float32)


matrices = st.builds(
    matrix,
    seed=st.integers(0, 999),
    rows=st.sampled_from((1, 15, 33, 64, 200)),
    columns=st.sampled_from((1, 4, 300)),
    size=st.sampled_from((1e-3, 0.05, 30.0)),
)


@settings(max_examples=80, deadline=None)
@given(fmt=formats, weights=matrices, search=st.sampled_from(Search))
def test_every_weight_gets_its_nearest_level(fmt: Format, weights: Float32, search: Search) -> None:
    grid = fmt.fit(weights, search=search)
    assert np.all(grid.scale > 0)
    codes = fmt.encode(weights, grid)
    scale = np.repeat(grid.scale, fmt.group or len(weights), axis=0)[: len(weights)]
    distance = np.abs(fmt.levels - (weights / scale)[..., np.newaxis])
    chosen = np.take_along_axis(distance, codes[..., np.newaxis].astype(np.int64), axis=-1)[..., 0]
    # boundaries between levels are rounded to float32.
    assert np.all(chosen <= distance.min(axis=-1) * (1 + 1e-5) + 1e-6)
    np.testing.assert_array_equal(fmt.encode(fmt.decode(codes, grid), grid), codes)


@settings(max_examples=60, deadline=None)
@given(
    fmt=st.sampled_from(SCALED),
    weights=matrices,
    search=st.sampled_from((Search.MSE, Search.HQQ)),
)
def test_searches_are_never_worse_than_the_first_scale(fmt: Format, weights: Float32, search: Search) -> None:
    importance = np.random.default_rng(len(weights)).exponential(size=len(weights)).astype(np.float32)

    def price(chosen: Search) -> float:
        grid = fmt.fit(weights, search=chosen, importance=importance)
        error = np.abs(fmt.decode(fmt.encode(weights, grid), grid) - weights).astype(np.float64)
        return float((importance[:, np.newaxis] * error**2).sum())

    # float32 sums of up to 200 terms: 1e-5 is ten times their rounding.
    assert price(search) <= price(Search.MINMAX) * (1 + 1e-5)


@pytest.mark.parametrize("fmt", SCALED, ids=str)
@pytest.mark.parametrize("search", list(Search))
def test_zero_columns_stay_zero_and_extremes_are_finite(fmt: Format, search: Search) -> None:
    weights = np.repeat(np.array([[0.0, 0.25, -1e-30, 1e4]], np.float32), 40, axis=0)
    grid = fmt.fit(weights, search=search)
    decoded = fmt.decode(fmt.encode(weights, grid), grid)
    assert np.all(np.isfinite(decoded))
    assert np.all(decoded[:, 0] == 0)


@pytest.mark.parametrize("levels", [NF4, tuple(range(-8, 8)), (0.0, -0.0, 1.0, -3.5)])
def test_look_up_rounding_is_nearest(levels: tuple[float, ...]) -> None:
    ladder = np.array(levels, np.float32)
    values = np.random.default_rng(0).uniform(ladder.min() - 1, ladder.max() + 1, 20_000).astype(np.float32)
    found = np.abs(ladder[nearest(values, rounding(ladder))] - values)
    # boundaries are rounded to float32: 1e-6 is a few of its steps near 8.
    np.testing.assert_allclose(found, np.abs(ladder[:, np.newaxis] - values).min(axis=0), atol=1e-6)


def test_mxfp4_scale_is_the_specifications() -> None:
    weights = matrix(1, 64, 50, 0.1)
    grid = MxFp4().fit(weights)
    largest = np.abs(weights.reshape(2, 32, 50)).max(axis=1)
    np.testing.assert_array_equal(grid.scale, 2.0 ** (np.floor(np.log2(largest)) - 2))
    np.testing.assert_array_equal(grid.scale, 2.0 ** (grid.parts["exponents"].astype(np.float32) - 127))


def test_nvfp4_scale_is_e4m3_times_the_tensors() -> None:
    weights = matrix(2, 100, 30, 0.1)
    grid = NvFp4().fit(weights)
    codes = grid.parts["scale_codes"].view(ml_dtypes.float8_e4m3fn).astype(np.float32)
    tensor_scale = np.float32(grid.parts["tensor_scale"][0])
    np.testing.assert_array_equal(grid.scale, codes * tensor_scale)
    assert codes.max() == 448.0
    assert NvFp4().span is None


def test_fp8_codes_are_the_bytes() -> None:
    weights = matrix(3, 50, 20, 0.1)
    fmt = Float8()
    grid = fmt.fit(weights)
    codes = fmt.encode(weights, grid)
    expected = codes.view(ml_dtypes.float8_e4m3fn).astype(np.float32) * grid.scale
    np.testing.assert_array_equal(fmt.decode(codes, grid), expected)
    assert not np.any((codes & 0x7F) == 0x7F)


def test_double_quantized_scales_are_what_the_parts_say() -> None:
    weights = matrix(4, 200, 600, 0.02)
    single, double = Table("nf4", 64).fit(weights), Table("nf4", 64, double_quantized=True).fit(weights)
    parts = double.parts
    step = np.repeat(parts["scale_step"], 256, axis=1)[:, :600].astype(np.float32)
    expected = (parts["scale_codes"].astype(np.float32) - 128) * step + parts["scale_mean"].astype(np.float32)
    np.testing.assert_array_equal(double.scale, expected)
    # half a step of 8 bits, and float32 rounding
    assert np.all(np.abs(double.scale - single.scale) <= step * 0.5001)


def test_ternary_scale_is_the_mean_magnitude() -> None:
    weights = matrix(5, 64, 10, 0.1)
    grid = Ternary().fit(weights)
    # float16 rounding of scales
    np.testing.assert_allclose(grid.scale[0], np.abs(weights).mean(axis=0), rtol=2**-11)
    assert set(np.unique(Ternary().signed(Ternary().encode(weights, grid)))) <= {-1, 0, 1}


@pytest.mark.parametrize(
    ("fmt", "bits"),
    [
        (Table("nf4", 64), 4.25),
        (Table("nf4", 64, double_quantized=True), 4 + 8 / 64 + 32 / (64 * 256) + 32 / (64 * 512)),
        (Float8(None), 8 + 16 / 512),
        (MxFp4(), 4.25),
        (NvFp4(), 4.5 + 32 / 512**2),
        (Ternary(), 2 + 16 / 512),
    ],
    ids=str,
)
def test_bits_per_weight(fmt: Format, bits: float) -> None:
    assert fmt.bits_per_weight(512, 512) == bits


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(OptionError, match="nf5"):
        Table("nf5")
    with pytest.raises(UnsupportedError, match="finite"):
        NvFp4().fit(np.full((16, 2), np.inf, np.float32))
    for name, problem in (("ternary", "no zero point"), ("nf4", "no zero point"), ("q6_k", "no zero point")):
        with pytest.raises(OptionError, match=problem):
            format_of(name, symmetric=False)
