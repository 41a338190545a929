"""Books of vectors: codes are the nearest there are, steps never lose, and what the numbers say is what is stored."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from qcompiler.numerics.vector_codebook import Shape, VectorCodebook, fit_vectors, output_error

Array = npt.NDArray[np.float32]
SMALL = Shape(books=1, entries=16, length=4)


def weights(rows: int = 64, columns: int = 40) -> Array:
    return np.random.default_rng(0).standard_normal((rows, columns)).astype(np.float32)


def gram(rows: int = 64) -> npt.NDArray[np.float64]:
    """Of inputs that depend on each other."""
    random = np.random.default_rng(1)
    inputs = random.standard_normal((400, rows // 4)) @ random.standard_normal((rows // 4, rows))
    found = inputs.T @ inputs / len(inputs)
    return np.asarray(found / found.diagonal().mean() + 0.05 * np.eye(rows))


@pytest.mark.parametrize("books", [1, 2])
def test_weights_are_what_the_formula_says(books: int) -> None:
    made = fit_vectors(weights(), Shape(books, 16, 4), None, 1)
    expected = np.zeros((64, 40), np.float32)
    for row, column in itertools.product(range(64), range(40)):
        vectors = (made.book[b, made.codes[b, row // 4, column], row % 4] for b in range(books))
        expected[row, column] = made.scale[column] * sum(vectors)
    np.testing.assert_allclose(made.weights(), expected, rtol=1e-5, atol=1e-6)  # two float32 sums


@pytest.mark.parametrize("books", [1, 2])
@pytest.mark.parametrize("measure", [None, gram()])
def test_sweeps_never_lose(books: int, measure: npt.NDArray[np.float64] | None) -> None:
    shape, norm = Shape(books, 16, 4), np.eye(64) if measure is None else measure
    errors = [output_error(weights(), fit_vectors(weights(), shape, measure, n), norm) for n in range(5)]
    # Each step is exact, but for the rounding of float32 sums.
    assert all(after <= before * (1 + 1e-5) for before, after in itertools.pairwise(errors))
    assert errors[-1] < errors[0]


def test_codes_of_one_group_are_the_best_of_all() -> None:
    """A single group has nothing to trade with: an exhaustive search finds no better code."""
    matrix, measure = weights(4, 30), gram(64)[:4, :4]
    made = fit_vectors(matrix, SMALL, measure, 0)
    for column in range(30):
        off = matrix[:, column, np.newaxis] - made.scale[column] * made.book[0].T
        costs = np.einsum("je,ji,ie->e", off, measure, off)
        assert costs[made.codes[0, 0, column]] <= costs.min() * (1 + 1e-4)


def test_the_gram_matrix_is_what_is_minimized() -> None:
    plain, aware = (fit_vectors(weights(), SMALL, measure, 3) for measure in (None, gram()))
    assert output_error(weights(), aware, gram()) < 0.6 * output_error(weights(), plain, gram())


def test_few_different_vectors_are_kept() -> None:
    """Columns of one magnitude made of 16 vectors."""
    random = np.random.default_rng(0)
    book = random.standard_normal((1, 16, 4)).astype(np.float32)
    book /= np.linalg.norm(book, axis=2, keepdims=True)
    codes = random.integers(0, 16, (1, 16, 40)).astype(np.uint8)
    matrix = VectorCodebook(codes, book, np.ones(40, np.float32)).weights()
    made = fit_vectors(matrix, Shape(1, 256, 4), None, 0)
    np.testing.assert_allclose(made.weights(), matrix, atol=1e-5)  # means of equal float32 values


@pytest.mark.parametrize("dead", ["column", "row"])
def test_zeros_do_no_harm(dead: str) -> None:
    matrix, measure = weights(), gram()
    if dead == "column":
        matrix[:, 3] = 0
    else:
        measure[5], measure[:, 5] = 0, 0
        measure[5, 5] = 0.01  # damping
    made = fit_vectors(matrix, SMALL, measure, 2)
    assert np.isfinite(made.weights()).all()


def test_threads_do_not_change_the_result() -> None:
    wide = weights(16, 600)
    made = fit_vectors(wide, SMALL, gram(16), 0)
    again = fit_vectors(wide, SMALL, gram(16), 0)
    assert np.array_equal(made.codes, again.codes)
