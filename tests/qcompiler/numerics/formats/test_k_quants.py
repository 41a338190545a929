from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompiler.errors import OptionError
from qcompiler.numerics.formats.base import Float32, Grid, Search
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.numerics.formats.k_quants import LAYOUTS, KQuant

kinds = st.sampled_from(sorted(LAYOUTS))
searches = st.sampled_from((Search.MINMAX, Search.MSE, Search.K_QUANT))


def matrix(seed: int, rows: int, columns: int, size: float, shift: float) -> Float32:
    random = np.random.default_rng(seed)
    return (size * (random.standard_t(4, (rows, columns)) + shift)).astype(np.float32)


matrices = st.builds(
    matrix,
    seed=st.integers(0, 999),
    rows=st.sampled_from((1, 5, 31, 172, 256, 300, 512)),
    columns=st.integers(1, 5),
    size=st.sampled_from((1e-3, 0.05, 100.0)),
    shift=st.sampled_from((0.0, 0.7, -2.0)),
)


def slow_decode(kind: str, codes: np.ndarray, grid: Grid) -> Float32:
    """One weight at a time from what is stored, as ggml's dequantize_row_q*_K reads it."""
    layout = LAYOUTS[kind]
    decoded = np.empty(codes.shape, np.float32)
    for row, column in np.ndindex(*codes.shape):
        sub, block = row // layout.sub_block, row // 256
        step = np.float32(grid.parts["super_scale"][block, column]) * np.float32(
            int(grid.parts["scale_codes"][sub, column])
        )
        if layout.minimum:
            low = np.float32(grid.parts["super_min"][block, column]) * np.float32(
                int(grid.parts["min_codes"][sub, column])
            )
            decoded[row, column] = step * np.float32(int(codes[row, column])) - low
        else:
            decoded[row, column] = step * np.float32(int(codes[row, column]) - 2 ** (layout.bits - 1))
    return decoded


@settings(max_examples=60, deadline=None)
@given(kind=kinds, weights=matrices, search=searches)
def test_parts_hold_all_that_decoding_needs(kind: str, weights: Float32, search: Search) -> None:
    fmt, layout = KQuant(kind), LAYOUTS[kind]
    grid = fmt.fit(weights, search=search)
    codes = fmt.encode(weights, grid)
    np.testing.assert_array_equal(fmt.decode(codes, grid), slow_decode(kind, codes, grid))
    np.testing.assert_array_equal(fmt.encode(fmt.decode(codes, grid), grid), codes)
    assert codes.max() < 2**layout.bits
    reach = 2**layout.scale_bits
    for name in ("scale_codes", "min_codes") if layout.minimum else ("scale_codes",):
        part = grid.parts[name].astype(int)
        assert part.min() >= (0 if layout.minimum else -reach // 2)
        assert part.max() < (reach if layout.minimum else reach // 2)
    for name in ("super_scale", "super_min") if layout.minimum else ("super_scale",):
        part = grid.parts[name]
        np.testing.assert_array_equal(part.astype(np.float16).astype(np.float32), part)


def slow_covering_q4_k(column: Float32) -> Float32:
    """Decoded values of one super-block of one column without search, sub-block by sub-block."""
    parts = [column[start : start + 32] for start in range(0, len(column), 32)]
    lows = [min(float(part.min()), 0.0) for part in parts]
    steps = [(float(part.max()) - low) / 15 for part, low in zip(parts, lows, strict=True)]
    super_scale = max(steps) / 63
    super_min = max(-low for low in lows) / 63
    decoded = []
    for part, low, step in zip(parts, lows, steps, strict=True):
        scale = super_scale * round(step / super_scale)
        minimum = super_min * round(-low / super_min)
        decoded.append(scale * np.clip(np.round((part + minimum) / scale), 0, 15) - minimum)
    return np.concatenate(decoded).astype(np.float32)


def test_covering_fit_of_q4_k_is_that_of_the_slow_reference() -> None:
    fmt, weights = KQuant("q4_k"), matrix(1, 256, 6, 0.05, 0.0)
    grid = fmt.fit(weights)
    decoded = fmt.decode(fmt.encode(weights, grid), grid)
    expected = np.stack([slow_covering_q4_k(column) for column in weights.T], axis=1)
    # float16 rounds the super-block values up by 2**-10 at most, which can move a scale code or a code by one step:
    # compare the error, not the codes.
    error = float(np.square(decoded - weights).sum())
    assert error == pytest.approx(float(np.square(expected - weights).sum()), rel=0.02)
    assert np.mean(np.abs(decoded - expected) < 1e-2 * np.abs(weights).max()) > 0.95


@settings(max_examples=60, deadline=None)
@given(kind=kinds, weights=matrices, seed=st.integers(0, 99))
def test_mse_is_never_worse_than_minmax(kind: str, weights: Float32, seed: int) -> None:
    fmt = KQuant(kind)
    importance = np.random.default_rng(seed).exponential(size=len(weights)).astype(np.float32)

    def price(search: Search) -> float:
        grid = fmt.fit(weights, search=search, importance=importance)
        error = (fmt.decode(fmt.encode(weights, grid), grid) - weights).astype(np.float64)
        return float((importance[:, np.newaxis] * error**2).sum())

    # float32 sums of up to 256 terms: 1e-4 is ten times their rounding.
    assert price(Search.MSE) <= price(Search.MINMAX) * (1 + 1e-4)


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
def test_searches_beat_covering_on_heavy_tails(kind: str) -> None:
    fmt, weights = KQuant(kind), matrix(2, 512, 64, 0.02, 0.0)
    importance = np.random.default_rng(3).exponential(size=512).astype(np.float32)

    def price(search: Search) -> float:
        grid = fmt.fit(weights, search=search, importance=importance)
        error = fmt.decode(fmt.encode(weights, grid), grid) - weights
        return float((importance[:, np.newaxis] * error**2).sum())

    # measured: 18 % (q6_k) to 50 % (q2_k) less.
    assert price(Search.MSE) < 0.87 * price(Search.MINMAX)
    assert price(Search.K_QUANT) < 0.88 * price(Search.MINMAX)


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
@pytest.mark.parametrize("search", [Search.MINMAX, Search.MSE, Search.K_QUANT])
def test_zero_and_constant_columns(kind: str, search: Search) -> None:
    weights = np.repeat(np.array([[0.0, 0.5, -0.5, 1e-30]], np.float32), 280, axis=0)
    fmt = KQuant(kind)
    grid = fmt.fit(weights, search=search)
    decoded = fmt.decode(fmt.encode(weights, grid), grid)
    assert np.all(decoded[:, 0] == 0)
    # float16 holds 11 bits; scale and code cover the constant with their end.
    np.testing.assert_allclose(decoded[:, 1:3], weights[:, 1:3], rtol=2**-9)
    assert np.all(np.abs(decoded[:, 3]) <= 1e-3)


@pytest.mark.parametrize(
    ("kind", "bits"),
    [("q2_k", 2.625), ("q3_k", 3.4375), ("q4_k", 4.5), ("q5_k", 5.5), ("q6_k", 6.5625), ("q8_0", 8.5)],
)
def test_bits_per_weight_are_llama_cpps(kind: str, bits: float) -> None:
    assert format_of(kind).bits_per_weight(512, 10) == bits


def test_short_super_block_pays_for_its_own_values() -> None:
    # 172 = 5 sub-blocks of 32 and one of 12: codes, 6 scales and minima of 6 bits, two float16
    assert KQuant("q4_k").bits_per_weight(172, 3) == 8 * -(-(172 * 4 + 6 * 12 + 32) // 8) / 172


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
def test_super_blocks_are_independent(kind: str) -> None:
    fmt, weights = KQuant(kind), matrix(4, 600, 3, 0.1, 0.0)
    whole = fmt.fit(weights, search=Search.MSE)
    spans = [fmt.fit(weights[start : start + 256], search=Search.MSE) for start in (0, 256, 512)]
    np.testing.assert_array_equal(whole.scale, np.concatenate([span.scale for span in spans]))
    for name, part in whole.parts.items():
        np.testing.assert_array_equal(part, np.concatenate([span.parts[name] for span in spans]))


def test_q8_0_puts_the_largest_at_127() -> None:
    weights = matrix(5, 64, 3, 0.1, 0.0)
    fmt = format_of("q8_0")
    grid = fmt.fit(weights)
    expected = np.abs(weights.reshape(2, 32, 3)).max(axis=1) / 127
    np.testing.assert_allclose(grid.scale, expected, rtol=2**-10)
    assert np.abs(fmt.encode(weights, grid).astype(int) - 128).max() == 127


def test_what_does_not_apply_is_refused() -> None:
    with pytest.raises(OptionError, match="k_quant or mse"):
        KQuant("q4_k").fit(np.zeros((256, 1), np.float32), search=Search.HQQ)
    with pytest.raises(OptionError, match="q7_k"):
        KQuant("q7_k")
