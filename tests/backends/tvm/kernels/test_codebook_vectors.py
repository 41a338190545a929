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


def check(spec: CodebookVectors) -> None:
    random = np.random.default_rng(0)
    groups = -(-spec.depth // spec.length)
    codes = random.integers(0, spec.entries, (spec.books, groups, CHANNELS))
    book = random.standard_normal((spec.books, spec.entries, spec.length), np.float32)
    scale = random.uniform(0.5, 2, CHANNELS).astype(np.float32)
    vectors = sum(book[b].astype(np.float64)[codes[b]] for b in range(spec.books))
    weight = np.asarray(vectors).transpose(0, 2, 1).reshape(-1, CHANNELS)[: spec.depth] * scale
    run = Runner(codebook_vectors(spec), spec.variant)
    for count in (1, 3, 5):
        x = random.standard_normal((count, spec.depth), np.float32)
        residual = [np.ones((count, CHANNELS), np.float32)] if spec.epilogue.residual else []
        actual = run(x, *pack(spec, codes, book, scale), *residual, shape=(count, CHANNELS))
        expected = x.astype(np.float64) @ weight + (1 if residual else 0)
        # entries are exact; 100 products are added up in float32
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=4e-5)


@pytest.mark.parametrize("variant", variant_cases())
@pytest.mark.parametrize("length", [8, 4])
def test_one_book(variant: Variant, length: int) -> None:
    check(CodebookVectors(CHANNELS, 104, length, 256, variant))


@pytest.mark.parametrize("variant", [Variant.PLAIN, RUNNABLE[0]])
def test_two_books_of_many_entries_and_a_residual(variant: Variant) -> None:
    check(CodebookVectors(CHANNELS, 64, 16, 1000, variant, 2, Epilogue(residual=True), rows=2))


def test_refuses_vectors_of_other_lengths() -> None:
    with pytest.raises(UnsupportedError, match="vectors of 6"):
        CodebookVectors(CHANNELS, 60, 6, 256, Variant.PLAIN)
