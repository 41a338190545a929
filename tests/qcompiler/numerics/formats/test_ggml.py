"""k-quants packed as ggml's blocks are read by llama.cpp's own Python (``gguf``) as what we decode, bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType, dequantize, quantize

from qcompiler.numerics.formats.affine import Affine
from qcompiler.numerics.formats.base import Codes, Float32, Format, Grid, Search
from qcompiler.numerics.formats.catalog import format_of

Bytes = npt.NDArray[Any]
Parts = Mapping[str, npt.NDArray[Any]]
K, N = 512, 24


def matrix(seed: int) -> Float32:
    random = np.random.default_rng(seed)
    return (0.05 * random.standard_t(4, (K, N))).astype(np.float32)


def blocks(array: Bytes) -> Bytes:
    """``[G * blocks, N]`` to ``[N * blocks, G]``: ggml has columns as rows."""
    return np.ascontiguousarray(array.T)


def half(array: Bytes) -> Bytes:
    """float16 bytes ``[n, 2]`` of ``[blocks, N]`` values that it holds."""
    return blocks(array).reshape(-1, 1).astype(np.float16).view(np.uint8)


def fields(codes: Bytes, bits: int, length: int) -> Bytes:
    """``[n, 256]`` to bytes: runs of ``length`` codes share ``length`` bytes, the first in the lowest bits."""
    runs = codes.reshape(len(codes), -1, 8 // bits, length)
    shifts = (bits * np.arange(8 // bits, dtype=np.uint8))[:, np.newaxis]
    packed: Bytes = np.bitwise_or.reduce(runs << shifts, axis=2)
    return packed.reshape(len(codes), -1)


def six_bits(scale: Bytes, minimum: Bytes) -> Bytes:
    """Scales and minima ``[n, 8]`` of q4_k and q5_k in 12 bytes."""
    first = scale[:, :4] | scale[:, 4:] >> 4 << 6
    second = minimum[:, :4] | minimum[:, 4:] >> 4 << 6
    return np.hstack([first, second, scale[:, 4:] & 15 | (minimum[:, 4:] & 15) << 4])


def q2_k(codes: Codes, parts: Parts) -> Bytes:
    scale, minimum = of_blocks(parts, "scale_codes", 16), of_blocks(parts, "min_codes", 16)
    ends = half(parts["super_scale"]), half(parts["super_min"])
    return np.hstack([scale | minimum << 4, fields(codes, 2, 32), *ends])


def q3_k(codes: Codes, parts: Parts) -> Bytes:
    scale = (of_blocks(parts, "scale_codes", 16).view(np.int8) + 32).astype(np.uint8)
    low = scale[:, :8] & 15 | (scale[:, 8:] & 15) << 4
    packed = np.hstack([low, fields(scale >> 4, 2, 4)])
    return np.hstack(
        [fields(codes >> 2, 1, 32), fields(codes & 3, 2, 32), packed, half(parts["super_scale"])]
    )


def q4_k(codes: Codes, parts: Parts) -> Bytes:
    packed = six_bits(of_blocks(parts, "scale_codes", 8), of_blocks(parts, "min_codes", 8))
    return np.hstack([half(parts["super_scale"]), half(parts["super_min"]), packed, fields(codes, 4, 32)])


def q5_k(codes: Codes, parts: Parts) -> Bytes:
    packed = six_bits(of_blocks(parts, "scale_codes", 8), of_blocks(parts, "min_codes", 8))
    ends = half(parts["super_scale"]), half(parts["super_min"])
    return np.hstack([*ends, packed, fields(codes >> 4, 1, 32), fields(codes & 15, 4, 32)])


def q6_k(codes: Codes, parts: Parts) -> Bytes:
    scale = of_blocks(parts, "scale_codes", 16)
    return np.hstack(
        [fields(codes & 15, 4, 64), fields(codes >> 4, 2, 32), scale, half(parts["super_scale"])]
    )


def of_blocks(parts: Parts, name: str, each: int) -> Bytes:
    """Codes ``[G, N]`` as bytes ``[n, each]``."""
    return blocks(parts[name]).reshape(-1, each).view(np.uint8)


PACK: Mapping[str, Callable[[Codes, Parts], Bytes]] = {
    "q2_k": q2_k,
    "q3_k": q3_k,
    "q4_k": q4_k,
    "q5_k": q5_k,
    "q6_k": q6_k,
}


def read_by_gguf(packed: Bytes, name: str) -> Float32:
    """The ``[K, N]`` matrix of ``[n, bytes]`` blocks."""
    rows = dequantize(packed.reshape(N, -1), GGMLQuantizationType[name.upper()])
    return np.asarray(rows, np.float32).T


def encoded(fmt: Format, weights: Float32, search: Search) -> tuple[Codes, Grid]:
    grid = fmt.fit(weights, search=search)
    return fmt.encode(weights, grid), grid


@pytest.mark.parametrize("name", PACK)
@pytest.mark.parametrize("search", [Search.MINMAX, Search.MSE, Search.K_QUANT])
def test_k_quants_decode_as_ggml_reads_them(name: str, search: Search) -> None:
    fmt = format_of(name)
    codes, grid = encoded(fmt, matrix(1), search)
    packed = PACK[name](blocks(codes).reshape(-1, 256), grid.parts)
    assert 8 * packed.size / (K * N) == fmt.bits_per_weight(K, N)
    np.testing.assert_array_equal(read_by_gguf(packed, name), fmt.decode(codes, grid))


@pytest.mark.parametrize("search", list(Search))
def test_q8_0_decodes_as_ggml_reads_it(search: Search) -> None:
    fmt = format_of("q8_0")
    codes, grid = encoded(fmt, matrix(2), search)
    signed = blocks(codes ^ np.uint8(128)).reshape(-1, 32)
    packed = np.hstack([half(grid.scale), signed])
    np.testing.assert_array_equal(read_by_gguf(packed, "q8_0"), fmt.decode(codes, grid))


@pytest.mark.parametrize("search", list(Search))
def test_symmetric_int4_in_groups_of_32_decodes_as_q4_0(search: Search) -> None:
    fmt = Affine(4, 32, symmetric=True)
    codes, grid = encoded(fmt, matrix(3), search)
    nibbles = fields(blocks(codes).reshape(-1, 32), 4, 16)
    packed = np.hstack([half(grid.scale), nibbles])
    np.testing.assert_array_equal(read_by_gguf(packed, "q4_0"), fmt.decode(codes, grid))


@pytest.mark.parametrize(("name", "fmt"), [("q8_0", format_of("q8_0")), ("q4_0", Affine(4, 32, True))])
def test_rounding_without_search_errs_as_much_as_ggml(name: str, fmt: Format) -> None:
    weights, kind = matrix(4), GGMLQuantizationType[name.upper()]
    theirs = dequantize(quantize(np.ascontiguousarray(weights.T), kind), kind).T
    ours = fmt.decode(*encoded(fmt, weights, Search.MINMAX))
    # ggml rounds with scales before they are cut to float16, and Q4_0 upwards from the middle: a few codes differ.
    assert np.mean(np.abs(ours - theirs) <= 2**-9 * np.abs(weights).max()) > 0.98
    assert np.square(ours - weights).sum() == pytest.approx(np.square(theirs - weights).sum(), rel=0.02)
