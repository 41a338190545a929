"""GPTQ (arXiv:2210.17323) and GPTAQ (arXiv:2504.02692): round row after row, later rows making good earlier errors.

With inputs X, weights W, their rounding Q and E = W - Q, the output error is ``||X E||^2 = tr(E' H E)``, H = X'X.
Written as ``H = A' D A`` with A unit lower triangular and D diagonal, it is a sum over rows k,

    D[k] * || e[k] + sum_{j<k} A[k, j] e[j] ||^2,

so that row k is best rounded from ``w[k] + sum_{j<k} A[k, j] e[j]`` (QuIP shows that this is GPTQ, arXiv:2307.13304,
section 4).  One Cholesky factorization is all it takes, no inverse.

GPTAQ aims at the float model's output, ``||X_float W - X Q||^2``.  With S = (X_float - X)'X that is, up to what no Q
changes, ``tr((T - Q)' H (T - Q))`` of the target ``T = W + H^-1 S' W``, which is rounded in the place of W.

The published GPTAQ leaves W and lets later rows alone make good a row's drift: row k is rounded from the above plus
``sum_{j<k} L[k, j] w[j]``, w[j] as it was before it was rounded and L the strict lower triangle of ``D^-1 A^-T S'``
(the authors' code takes a quarter of it).  So a row does nothing about drift that it can reach itself, and scales are
fitted to W.  With random layers, 64 inputs and 3 bits, ours leaves 0.38 of GPTQ's distance to the float output, theirs
0.63, and 0.83 with the quarter (``tests/qcompiler/numerics/test_published_solvers.py``); with ``sweeps=0`` too.

Greedy rounding is not the optimum, so sweeps of coordinate descent follow, which never raise the output error
(:mod:`qcompiler.numerics.refine`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.errors import UnsupportedError
from qcompiler.numerics.formats.base import Codes, Float32, Format, Grid, Search
from qcompiler.numerics.refine import refine

Float64 = npt.NDArray[np.float64]
Order = npt.NDArray[np.int64]

SWEEPS = 3

SINGULAR = "inputs of the weight follow from one another, so that X'X is singular; give damping=0.01"


@dataclass(frozen=True)
class Solution:
    """What was found for one weight.

    Attributes:
        codes: ``[K, N]`` uint8, rows as in the weight, or as ``order`` has them.
        grid: scale and offset of the groups of ``codes``.
        order: ``[K]`` int64 where groups run over permuted rows, row i of ``codes`` being row ``order[i]`` of the
            weight: the activation must then be gathered with it.  None where rows are as in the weight.
    """

    codes: Codes
    grid: Grid
    order: Order | None = None


@dataclass(frozen=True)
class Problem:
    """One weight with its rows in the order in which they are rounded.

    Attributes:
        target: ``[K, N]`` float32, what is to be rounded: the weights, or T of GPTAQ.
        factor: A of H = A'DA: unit lower triangular ``[K, K]`` float32.
    """

    target: Float32
    factor: Float32


def solve(
    weights: Float32,
    gram: Float32,
    fmt: Format,
    *,
    drift: Float32 | None = None,
    search: Search = Search.MINMAX,
    damping: float = 0.01,
    order: bool = True,
    static_groups: bool = True,
    importance: Float32 | None = None,
    sweeps: int = SWEEPS,
    block: int = 128,
) -> Solution:
    """Find the codes of ``weights [K, N]`` that keep the output, given the inputs' ``gram [K, K]``.

    Args:
        weights: float32.
        gram: X'X / rows of the inputs that the weight will see.  Inputs that are always zero (a zero on the
            diagonal) are rounded to nearest.
        fmt: any format.
        drift: (X_float - X)'X / rows ``[K, K]`` for GPTAQ.
        search: how the format fits its grid.
        damping: share of the mean of gram's diagonal that is added to the diagonal, against overfitting.
        order: round rows in the order of falling diagonal, the largest inputs first.
        static_groups: fit the grid to the weight as it is, so that groups are of neighbouring rows whatever the
            order; otherwise when a group's turn comes, to its rows as earlier errors have moved them.  Formats that
            quantize scales across the matrix (no ``span``) are always static.
        importance: ``[K]`` weighs rows in the search; None for the damped diagonal of ``gram``.
        sweeps: of coordinate descent over codes and scales afterwards, at most; 0 is the published method.
        block: rows whose errors are passed on together; changes speed, not the result beyond rounding.

    Raises:
        UnsupportedError: ``gram`` is not finite, or singular where there is no damping.
    """
    damped, unit = damp(gram, damping)
    target = weights if drift is None else aimed(weights, damped, drift / unit)
    weight = _importance(damped) if importance is None else importance
    turns = falling(np.diagonal(damped)) if order else np.arange(len(gram), dtype=np.int64)
    problem = _problem(target, damped, turns)
    if fmt.span is None or static_groups:
        grid = fmt.fit(target, search=search, importance=weight)
        codes = np.empty(weights.shape, np.uint8)
        codes[turns] = _round_to_grid(problem, fmt, grid, group_of(turns, fmt), block)
        return Solution(*refine(target, damped, codes, grid, fmt, sweeps=sweeps))
    codes, grid = _round_and_fit(problem, fmt, search, weight[turns], block)
    found = refine(problem.target, damped[np.ix_(turns, turns)], codes, grid, fmt, sweeps=sweeps)
    return Solution(*found, turns if order else None)


def aimed(weights: Float32, gram: Float64, drift: Float64) -> Float32:
    """The target of GPTAQ: ``W + H^-1 S' W``, the weights that come nearest to the float model's output."""
    try:
        move = np.linalg.solve(gram, drift.T @ weights)
    except np.linalg.LinAlgError as error:
        raise UnsupportedError(SINGULAR) from error
    target: Float32 = weights + move.astype(np.float32)
    return target


def damp(gram: Float32, damping: float) -> tuple[Float64, np.float64]:
    """``gram`` in units of its mean diagonal, damped, and that unit, both of the inputs that are ever used.

    A share ``damping`` of the unit is added to the diagonal.  Dead inputs are made independent of all others.

    Raises:
        UnsupportedError: ``gram`` holds NaN or infinity.
    """
    diagonal = gram.diagonal().astype(np.float64)
    dead = diagonal <= 0
    unit = np.float64(1.0) if dead.all() else diagonal[~dead].mean()
    if not np.isfinite(unit):
        raise UnsupportedError("the inputs of the weight are too large for float32, or not numbers")
    damped = gram / unit
    damped[dead] = 0.0
    damped[:, dead] = 0.0
    np.fill_diagonal(damped, np.where(dead, 1.0, diagonal / unit) + damping)
    return damped, unit


def falling(diagonal: Float64) -> Order:
    """Rows by falling diagonal, equal ones as they come: ``[K]`` int64."""
    return np.argsort(-diagonal, kind="stable").astype(np.int64)


def unit_factor(gram: Float64, turns: Order) -> Float32:
    """A of ``A' D A``, unit lower triangular, for the rows of ``gram`` in the order of ``turns``: ``[K, K]`` float32.

    Raises:
        UnsupportedError: ``gram`` is not positive definite.
    """
    backwards = turns[::-1]
    try:
        factor = np.linalg.cholesky(
            gram[np.ix_(backwards, backwards)], upper=True
        )  # the rows from the last: R'R
    except np.linalg.LinAlgError as error:
        raise UnsupportedError(SINGULAR) from error
    factor /= factor.diagonal().copy()[:, np.newaxis]
    return np.ascontiguousarray(factor[::-1, ::-1], dtype=np.float32)


def remaining(gram: Float32, damping: float) -> Float32:
    """D of ``H = A' D A`` as a diagonal Gram matrix ``[K, K]``: what a row costs once later rows correct it."""
    damped, unit = damp(gram, damping)
    turns = falling(damped.diagonal())
    upper = np.linalg.cholesky(damped[np.ix_(turns, turns)][::-1, ::-1])[::-1, ::-1]
    costs = np.empty(len(gram), np.float32)
    costs[turns] = np.square(upper.diagonal()) * unit
    return np.diag(costs)


def _importance(damped: Float64) -> Float32:
    diagonal = damped.diagonal()
    relative: Float32 = (diagonal / diagonal.mean()).astype(np.float32)
    return relative


def _problem(target: Float32, damped: Float64, turns: Order) -> Problem:
    return Problem(np.ascontiguousarray(target[turns]), unit_factor(damped, turns))


@dataclass(frozen=True)
class _Rounding:
    """Codes and errors of the rows rounded so far."""

    problem: Problem
    fmt: Format
    codes: Codes
    errors: Float32

    def rows(self, first: int, last: int, grid: Grid, groups: Order, block: int) -> None:
        """Round rows ``first`` to ``last``; row k belongs to group ``groups[k - first]`` of ``grid``."""
        for start in range(first, last, block):
            stop = min(start + block, last)
            aims = self._aims(start, stop)
            for k in range(start, stop):
                group = groups[k - first]
                offset = None if grid.offset is None else grid.offset[group]
                aim = aims[k - start] + self.problem.factor[k, start:k] @ self.errors[start:k]
                self.codes[k] = self.fmt.codes_of(aim, grid.scale[group], offset)
                value = self.fmt.values_of(self.codes[k], grid.scale[group], offset)
                self.errors[k] = self.problem.target[k] - value

    def moved(self, first: int, last: int) -> Float32:
        """Rows ``first`` to ``last`` where the errors before them would best have them, were they not rounded."""
        target = self.problem.target[first:last]
        move = self._aims(first, last) - target
        within = self.problem.factor[first:last, first:last].astype(np.float64)
        return target + np.linalg.solve(within, move.astype(np.float64)).astype(np.float32)

    def _aims(self, start: int, stop: int) -> Float32:
        """What rows ``start`` to ``stop`` are rounded from, as far as the errors before them go."""
        aims: Float32 = (
            self.problem.target[start:stop] + self.problem.factor[start:stop, :start] @ self.errors[:start]
        )
        return aims


def _started(problem: Problem, fmt: Format) -> _Rounding:
    shape = problem.target.shape
    return _Rounding(problem, fmt, np.empty(shape, np.uint8), np.empty(shape, np.float32))


def _round_to_grid(problem: Problem, fmt: Format, grid: Grid, groups: Order, block: int) -> Codes:
    rounding = _started(problem, fmt)
    rounding.rows(0, len(groups), grid, groups, block)
    return rounding.codes


def _round_and_fit(
    problem: Problem, fmt: Format, search: Search, importance: Float32, block: int
) -> tuple[Codes, Grid]:
    rows = len(problem.target)
    rounding, grids = _started(problem, fmt), []
    for first in range(0, rows, fmt.span or rows):
        last = min(first + (fmt.span or rows), rows)
        grids.append(fmt.fit(rounding.moved(first, last), search=search, importance=importance[first:last]))
        rounding.rows(first, last, grids[-1], group_of(np.arange(last - first), fmt), block)
    return rounding.codes, joined(grids)


def group_of(rows: Order, fmt: Format) -> Order:
    """The group that each of ``rows`` belongs to."""
    return np.zeros_like(rows) if fmt.group is None else rows // fmt.group


def joined(grids: list[Grid]) -> Grid:
    """One grid of those of consecutive spans of rows."""
    offsets = [grid.offset for grid in grids if grid.offset is not None]
    points = [grid.zero_point for grid in grids if grid.zero_point is not None]
    parts = {name: np.concatenate([grid.parts[name] for grid in grids]) for name in grids[0].parts}
    return Grid(
        np.concatenate([grid.scale for grid in grids]),
        np.concatenate(offsets) if offsets else None,
        np.concatenate(points) if points else None,
        parts,
    )
