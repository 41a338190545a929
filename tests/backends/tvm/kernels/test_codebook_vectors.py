"""Weights that are sums of entries of codebooks, against NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.codebook_vectors import CodebookVectors, codebook_vectors, pack
from qcompiler.backends.tvm.kernels.epilogue import Epilogue
from qcompiler.errors import UnsupportedError
from tests.backends.tvm.kernels.running import RUNNABLE, Runner, variant_cases

pytestmark = pytest.mark.tvm

CHANNELS = 21
Floats = npt.NDArray[np.float32]


def check(spec: CodebookVectors, counts: tuple[int, ...] = (1, 3, 5)) -> None:
    random, channels = np.random.default_rng(0), spec.channels
    groups = -(-spec.depth // spec.length)
    codes = random.integers(0, spec.entries, (spec.books, groups, channels))
    book = random.standard_normal((spec.books, spec.entries, spec.length), np.float32)
    scale = random.uniform(0.5, 2, channels).astype(np.float32)
    vectors = sum(book[b].astype(np.float64)[codes[b]] for b in range(spec.books))
    weight = np.asarray(vectors).transpose(0, 2, 1).reshape(-1, channels)[: spec.depth] * scale
    run = Runner(codebook_vectors(spec), spec.variant)
    for count in counts:
        x = random.standard_normal((count, spec.depth), np.float32)
        x[-1] *= 100  # each row has a step of its own
        residual = [np.ones((count, channels), np.float32)] if spec.epilogue.residual else []
        actual = run(x, *pack(spec, codes, book, scale), *residual, shape=(count, channels))
        expected = x.astype(np.float64) @ weight + (1 if residual else 0)
        # entries are exact; 100 products are added up in float32
        allowed = 4e-7 * (np.abs(x) @ np.abs(weight)) + 1e-6
        if spec.shape.worth_it and spec.variant is Variant.AVX512_VNNI:
            allowed += (
                0.51 * spec.books * groups * steps(spec, x, book) * scale
            )  # each table rounds by half a step
        assert (np.abs(actual - expected) <= allowed).all()


def steps(spec: CodebookVectors, x: Floats, book: Floats) -> npt.NDArray[np.float64]:
    """Of the tables of each row ``[M, 1]``, as they are defined."""
    padded = np.pad(x, ((0, 0), (0, -x.shape[1] % spec.length))).reshape(len(x), -1, spec.length)
    longest = np.linalg.norm(padded.astype(np.float64), axis=-1).max(-1, keepdims=True)
    return np.asarray(longest * np.linalg.norm(book, axis=-1).max() / 32700)


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("length", [8, 4])
def test_one_book(variant: Variant, length: int) -> None:
    check(CodebookVectors(CHANNELS, 104, length, 256, variant))


@pytest.mark.parametrize("variant", [Variant.PLAIN, RUNNABLE[0]])
def test_two_books_of_many_entries_and_a_residual(variant: Variant) -> None:
    check(CodebookVectors(CHANNELS, 64, 16, 1000, variant, 2, Epilogue(residual=True), rows=2))


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize(
    ("length", "entries", "books", "depth"),
    [
        pytest.param(8, 256, 1, 104, id="whole tables, a group of zeros"),
        pytest.param(4, 50, 2, 150, id="two registers, part of a vector"),
        pytest.param(16, 100, 1, 16, id="four registers, one group"),
    ],
)
def test_tables_that_many_channels_share(
    variant: Variant, length: int, entries: int, books: int, depth: int
) -> None:
    """Channels of more than a parallel task and not whole registers; rows that share threads, and do not."""
    spec = CodebookVectors(537, depth, length, entries, variant, books, Epilogue(residual=True))
    assert spec.shape.worth_it
    check(spec, (1, 5))


def test_rows_of_zeros_stay_zero() -> None:
    spec = CodebookVectors(512, 16, 8, 256, RUNNABLE[0])
    constants = pack(
        spec, np.zeros((1, 2, 512), np.int64), np.ones((1, 256, 8), np.float32), np.ones(512, np.float32)
    )
    found = Runner(codebook_vectors(spec), spec.variant)(
        np.zeros((1, 16), np.float32), *constants, shape=(1, 512)
    )
    assert not found.any()


def test_refuses_vectors_of_other_lengths() -> None:
    with pytest.raises(UnsupportedError, match="vectors of 6"):
        CodebookVectors(CHANNELS, 60, 6, 256, Variant.PLAIN)
