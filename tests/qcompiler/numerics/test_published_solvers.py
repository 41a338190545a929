"""GPTQ and GPTAQ against their authors' loops, written down one row after another in float64.

Both work on ``[N, K]`` with the upper Cholesky factor U of H^-1 = U'U, and move all rows that are left at once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from qcompiler.numerics import gptq
from qcompiler.numerics.formats.affine import Affine
from qcompiler.numerics.formats.base import Codes, Float32, Format, Grid
from qcompiler.numerics.formats.catalog import format_of

Float64 = npt.NDArray[np.float64]
DAMPING = 0.01


def published(
    weights: Float32,
    gram: Float32,
    fmt: Format,
    *,
    order: bool,
    static_groups: bool = True,
    drift: Float32 | None = None,
    share: float = 1.0,
) -> Float32:
    """What the codes stand for ``[K, N]``: algorithm 1 of arXiv:2210.17323, with ``drift`` that of arXiv:2504.02692.

    ``share`` of P is taken; the paper has all of it, the authors' code a quarter.
    """
    hessian = gram.astype(np.float64)
    dead = np.diagonal(hessian) == 0
    hessian[dead, dead] = 1
    turns = np.argsort(-np.diagonal(hessian), kind="stable") if order else np.arange(len(hessian))
    rows = weights.astype(np.float64)[turns].T.copy()
    hessian = hessian[np.ix_(turns, turns)]
    hessian += DAMPING * np.diagonal(hessian).mean() * np.eye(len(hessian))
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    carried = np.zeros_like(hessian)
    if drift is not None:
        moved = drift.astype(np.float64)[np.ix_(turns, turns)]
        carried = share * np.triu(moved @ upper.T, 1) @ upper
    size, grid, values = fmt.group or len(rows.T), fmt.fit(weights), np.empty_like(rows)
    for k, row in enumerate(turns):
        if not static_groups and k % size == 0:
            grid = fmt.fit(rows[:, k : k + size].T.astype(np.float32))
        current = rows[:, k].copy()
        values[:, k] = nearest(current, fmt, grid, row // size if static_groups else 0)
        error = (current - values[:, k]) / upper[k, k]
        rows[:, k:] -= np.outer(error, upper[k, k:]) - np.outer(current, carried[k, k:])
    result = np.empty(weights.shape, np.float32)
    result[turns] = values.T
    return result


def nearest(current: Float64, fmt: Format, grid: Grid, group: int) -> Float32:
    offset = None if grid.offset is None else grid.offset[group]
    codes: Codes = fmt.codes_of(current.astype(np.float32), grid.scale[group], offset)
    return fmt.values_of(codes, grid.scale[group], offset)


def ours(weights: Float32, gram: Float32, fmt: Format, *, block: int, **given: object) -> Float32:
    found = gptq.solve(weights, gram, fmt, damping=DAMPING, sweeps=0, block=block, **given)  # type: ignore[arg-type]
    values = fmt.decode(found.codes, found.grid)
    if found.order is None:
        return values
    result = np.empty_like(values)
    result[found.order] = values
    return result


def layer(seed: int, rows: int, columns: int = 24) -> tuple[Float32, Float32, Float32]:
    """Weights ``[K, N]``, and inputs ``[4 K, K]`` of two models: with a few factors in common, and with noise."""
    rng = np.random.default_rng(seed)
    clean = rng.normal(size=(4 * rows, 6)) @ rng.normal(size=(6, rows)) + 0.5 * rng.normal(
        size=(4 * rows, rows)
    )
    noisy = clean + 0.3 * rng.normal(size=clean.shape)
    noisy += 0.1 * np.roll(clean, 1, axis=1)
    weights = rng.normal(size=(rows, columns))
    return weights.astype(np.float32), clean.astype(np.float32), noisy.astype(np.float32)


def mean_product(left: Float32, right: Float32) -> Float32:
    mean: Float32 = left.T @ right / np.float32(len(left))
    return mean


@pytest.mark.parametrize("static_groups", [True, False])
@pytest.mark.parametrize("order", [True, False])
@pytest.mark.parametrize(
    "fmt", [Affine(4, 32), Affine(3, 16, symmetric=True), Affine(2, None), format_of("nf4")], ids=str
)
def test_gptq_gives_the_papers_codes_whatever_the_block(
    fmt: Format, order: bool, static_groups: bool
) -> None:
    for seed, rows in ((0, 96), (1, 72), (2, 20)):
        weights, inputs, _ = layer(seed, rows)
        gram = mean_product(inputs, inputs)
        expected = published(weights, gram, fmt, order=order, static_groups=static_groups)
        for block in (1, 17, 128):
            found = ours(weights, gram, fmt, block=block, order=order, static_groups=static_groups)
            # Levels are far apart: what differs by more than rounding in a scale is another code.
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6)


def test_dead_inputs_are_as_in_the_paper() -> None:
    weights, inputs, _ = layer(3, 40)
    inputs[:, [0, 7, 39]] = 0
    gram, fmt = mean_product(inputs, inputs), Affine(4, 8)
    alive = np.diagonal(gram) > 0
    found = ours(weights, gram, fmt, block=128, order=True)
    # The damping of the paper counts a one for every dead input; the codes of the others hardly depend on it.
    expected = published(weights, gram, fmt, order=True)
    assert np.mean(found[alive] != expected[alive]) < 0.02


@pytest.mark.parametrize("share", [1.0, 0.25])
@pytest.mark.parametrize("bits", [3, 4])
def test_gptaq_comes_nearer_to_the_float_output_than_the_published_one(bits: int, share: float) -> None:
    """The whole target in the place of the part that later rows can make good."""
    fmt, ratios = Affine(bits, 16), []
    for seed in range(8):
        weights, clean, inputs = layer(seed, 64)
        gram, drift = mean_product(inputs, inputs), mean_product(clean - inputs, inputs)
        theirs = published(weights, gram, fmt, order=True, drift=drift, share=share)
        whole = ours(weights, gram, fmt, block=128, order=True, drift=drift)
        distance = [np.square(clean @ weights - inputs @ found).sum() for found in (whole, theirs)]
        ratios.append(distance[0] / distance[1])
    assert np.mean(ratios) < 0.95


def test_both_gptaq_make_good_what_the_first_rows_have_drifted() -> None:
    """Drift of one row only, which is rounded first: what later rows make good of it is all that any row can."""
    weights, clean, inputs = layer(5, 32)
    largest = int(np.argmax(np.square(inputs).sum(axis=0)))
    clean = inputs.copy()
    clean[:, largest] *= np.float32(1.1)
    gram, drift = mean_product(inputs, inputs), mean_product(clean - inputs, inputs)
    fmt = Affine(8, None)
    distances = [
        np.square(clean @ weights - inputs @ found).sum()
        for found in (
            ours(weights, gram, fmt, block=128, order=True, drift=drift),
            published(weights, gram, fmt, order=True, drift=drift),
            ours(weights, gram, fmt, block=128, order=True),
        )
    ]
    assert distances[0] <= distances[1] < distances[2]
