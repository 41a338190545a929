"""Vectors of weights from books that a whole matrix shares: additive quantization (AQLM, arXiv:2401.06118).

    W[L g + j, n] ~ s[n] sum_b book[b, codes[b, g, n], j],   min tr (W - Q)' H (W - Q),   H = X'X / rows

1. s[n] is the weighted root of the mean square of a column; books are k-means of the columns' vectors, each of the
   residual that those before it leave, every element weighed by its diagonal of H.
2. Codes group after group, later groups making good earlier errors (as GPTQ does, arXiv:2210.17323, by vectors).
3. Sweeps: each group's codes again, all others fixed, to the least error under H itself; then books and scales by least
   squares with the codes fixed.  Neither makes the error larger.

Without H it is the unit matrix.  The paper trains books by gradients of whole blocks of a model; this keeps to one
layer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.formats.base import Float32
from qcompiler.numerics.formats.blocks import for_each

Codes = npt.NDArray[np.uint8]
Float64 = npt.NDArray[np.float64]

ROUNDS = 12
"""Of k-means."""
SAMPLED = 1 << 15
"""Vectors that k-means looks at."""
LEAST_WEIGHT = 1e-4
"""Share of the mean weight that every element has in k-means."""
STEPS = 4
"""Of conjugate gradients for the books."""
_COLUMNS = 256
"""Columns, or vectors, that are worked on at a time: their distances to 256 entries are 256 KiB."""


@dataclass(frozen=True)
class Shape:
    """Of what is fitted.

    Attributes:
        books: vectors that are added.
        entries: of a book, at most 256.
        length: weights of a vector, one below another.
    """

    books: int = 1
    entries: int = 256
    length: int = 8


@dataclass
class VectorCodebook:
    """A weight ``[K, N]`` from books.

    Attributes:
        codes: ``[B, K / L, N]``.
        book: ``[B, E, L]``.
        scale: ``[N]``.
    """

    codes: Codes
    book: Float32
    scale: Float32

    def weights(self) -> Float32:
        """What the codes stand for, ``[K, N]``."""
        return _added(self.codes, self.book) * self.scale


def fit_vectors(weights: Float32, shape: Shape, gram: Float64 | None, sweeps: int) -> VectorCodebook:
    """Books, codes and scales of ``weights [K, N]``.

    Args:
        weights: finite; L divides K.
        shape: of the books.
        gram: H ``[K, K]``, positive definite; None for the unit matrix.
        sweeps: of the third step.
    """
    rows = len(weights)
    damped = np.eye(rows) if gram is None else gram
    diagonal = np.maximum(damped.diagonal() / damped.diagonal().mean(), LEAST_WEIGHT)
    scale = np.sqrt((np.square(weights) * diagonal[:, np.newaxis]).mean(0)).astype(np.float32)
    scale[scale == 0] = 1
    found = _k_means(weights / scale, shape, diagonal)
    made = VectorCodebook(found.codes, found.book, scale)
    if gram is not None:
        _round_with_feedback(weights, made, damped)
    measure = damped.astype(np.float32)
    for _ in range(sweeps):
        _sweep(weights, made, measure)
        _fit_books(weights, made, measure)
        _fit_scales(weights, made, measure)
    return made


def output_error(weights: Float32, made: VectorCodebook, gram: Float64) -> float:
    """``tr (W - Q)' H (W - Q)``."""
    off = (weights - made.weights()).astype(np.float64)
    return float(np.einsum("kn,kn->", gram @ off, off))


def _added(codes: Codes, book: Float32) -> Float32:
    """The sum of the books' vectors ``[K, N]``, without scales."""
    _, groups, columns = codes.shape
    vectors = sum(entries[index] for entries, index in zip(book, codes, strict=True))
    return np.asarray(vectors, np.float32).transpose(0, 2, 1).reshape(groups * book.shape[2], columns)


def _vectors(matrix: Float32, length: int) -> Float32:
    """``[K / L, N, L]``."""
    return np.ascontiguousarray(matrix.reshape(-1, length, matrix.shape[1]).transpose(0, 2, 1))


def _k_means(matrix: Float32, shape: Shape, diagonal: Float64) -> VectorCodebook:
    """Books of the residual, one after the other, and codes that go with them."""
    rest = _vectors(matrix, shape.length)
    weights = diagonal.reshape(-1, shape.length).astype(np.float32)
    books, codes = [], []
    for turn in range(shape.books):
        random = np.random.default_rng(turn)
        chosen = np.sort(random.permutation(rest.shape[0] * rest.shape[1])[:SAMPLED])
        sample, of_sample = rest.reshape(-1, shape.length)[chosen], weights[chosen // rest.shape[1]]
        book = _book(sample, of_sample, shape.entries, random)
        index = np.stack([_nearest(part, book, weight) for part, weight in zip(rest, weights, strict=True)])
        rest = rest - book[index]
        books.append(book)
        codes.append(index.astype(np.uint8))
    return VectorCodebook(np.stack(codes), np.stack(books), np.ones(matrix.shape[1], np.float32))


def _book(sample: Float32, weights: Float32, entries: int, random: np.random.Generator) -> Float32:
    """k-means of ``sample [P, L]``, every element with a weight of its own."""
    book = np.resize(sample[random.permutation(len(sample))], (entries, sample.shape[1])).copy()
    for _ in range(ROUNDS):
        index = _nearest(sample, book, weights)
        total = _sums(index, weights, entries)
        mean = _sums(index, weights * sample, entries) / np.where(total > 0, total, 1)
        book = np.where(total > 0, mean, sample[random.integers(len(sample), size=entries)]).astype(
            np.float32
        )
    return book


def _nearest(points: Float32, book: Float32, weights: Float32) -> npt.NDArray[np.int64]:
    """Of each point ``[P, L]`` the entry at the least distance, weights ``[L]`` or ``[P, L]``."""
    weight = np.broadcast_to(weights, points.shape)
    left, right = np.hstack([weight, -2 * weight * points]), np.hstack([np.square(book), book])
    parts = (left[first : first + _COLUMNS] for first in range(0, len(points), _COLUMNS))
    return np.concatenate([(part @ right.T).argmin(1) for part in parts])


def _sums(index: npt.NDArray[np.integer], values: Float32, entries: int) -> Float64:
    """Sums of ``values [P, L]`` by ``index [P]``: ``[entries, L]``."""
    columns = [np.bincount(index, column, entries) for column in np.ascontiguousarray(values.T)]
    return np.stack(columns, axis=1)


def _round_with_feedback(weights: Float32, made: VectorCodebook, gram: Float64) -> None:
    """Codes group after group; what is lost goes to the rows behind, in the measure of what they cannot make good."""
    length = made.book.shape[2]
    upper = np.linalg.cholesky(np.linalg.inv(gram), upper=True).astype(np.float32)
    starts = range(0, len(weights), length)
    inverses = [np.linalg.inv(upper[at : at + length, at : at + length]).T for at in starts]
    metrics = [np.asarray(inverse.T @ inverse, np.float32) for inverse in inverses]

    def work(columns: slice) -> None:
        target, codes, scale = weights[:, columns].copy(), made.codes[:, :, columns], made.scale[columns]
        for group, (at, inverse, metric) in enumerate(zip(starts, inverses, metrics, strict=True)):
            rows, behind = slice(at, at + length), slice(at + length, None)
            _choose(codes[:, group], made.book, scale, metric, metric @ target[rows])
            lost = inverse @ (target[rows] - _group(codes, group, made.book) * scale)
            target[behind] -= upper[rows, behind].T @ lost

    for_each(_parts(weights), work)


def _sweep(weights: Float32, made: VectorCodebook, gram: Float32) -> None:
    """Every group's codes again, all others fixed."""
    length = made.book.shape[2]

    def work(columns: slice) -> None:
        target, codes, scale = weights[:, columns], made.codes[:, :, columns], made.scale[columns]
        off = target - _added(codes, made.book) * scale
        for group, at in enumerate(range(0, len(weights), length)):
            rows = slice(at, at + length)
            metric = gram[rows, rows]
            linear = metric @ (target[rows] - off[rows]) + gram[rows] @ off
            _choose(codes[:, group], made.book, scale, metric, linear)
            off[rows] = target[rows] - _group(codes, group, made.book) * scale

    for_each(_parts(weights), work)


def _parts(weights: Float32) -> list[slice]:
    """Columns that are worked on together: they do not depend on each other."""
    return [slice(first, first + _COLUMNS) for first in range(0, weights.shape[1], _COLUMNS)]


def _group(codes: Codes, group: int, book: Float32) -> Float32:
    """``[L, N]`` of one group, without scales."""
    return _added(codes[:, group : group + 1], book)


def _choose(codes: Codes, book: Float32, scale: Float32, metric: Float32, linear: Float32) -> None:
    """Codes ``[B, N]`` of least ``q' A q - 2 q' t`` for q = scale times the sum, in place, book by book."""
    for turn, entries in enumerate(book):
        rest = linear
        if len(book) > 1:
            others = np.arange(len(book)) != turn
            rest = linear - metric @ (_added(codes[others][:, np.newaxis], book[others]) * scale)
        squares = np.einsum("ej,ji,ei->e", entries, metric, entries)
        left, right = np.vstack([scale, -2 * rest]), np.column_stack([squares, entries])
        codes[turn] = (left.T @ right.T).argmin(1)


def _fit_books(weights: Float32, made: VectorCodebook, gram: Float32) -> None:
    """All books at once by conjugate gradients: the error is quadratic in them."""

    def slope(matrix: Float32) -> Float64:
        """What a change of each entry does to ``tr Q' matrix``."""
        parts = _vectors(matrix * made.scale, made.book.shape[2]).reshape(-1, made.book.shape[2])
        return np.stack([_sums(index.reshape(-1), parts, made.book.shape[1]) for index in made.codes])

    rest = slope(gram @ (weights - made.weights()))
    step, power = rest, float(np.square(rest).sum())
    book = made.book.astype(np.float64)
    for _ in range(STEPS):
        if power <= 0:
            break
        moved = _added(made.codes, step.astype(np.float32)) * made.scale
        answer = slope(gram @ moved)
        curvature = float((step * answer).sum())
        if curvature <= 0:
            break
        length = power / curvature
        book += length * step
        rest = rest - length * answer
        before, power = power, float(np.square(rest).sum())
        step = rest + power / before * step
    made.book = book.astype(np.float32)


def _fit_scales(weights: Float32, made: VectorCodebook, gram: Float32) -> None:
    """Each column's scale by least squares."""
    vectors = _added(made.codes, made.book)
    through = gram @ vectors
    power = np.einsum("kn,kn->n", through, vectors)
    best = np.einsum("kn,kn->n", through, weights) / np.where(power > 0, power, 1)
    made.scale = np.where((power > 0) & (best > 0), best, made.scale).astype(np.float32)
