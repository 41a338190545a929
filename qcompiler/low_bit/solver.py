"""How the codes of one weight are found, and remembering them."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from qcompiler.errors import OptionError
from qcompiler.numerics.formats.base import Codes, Float32, Format, Grid, Search
from qcompiler.numerics.gptq import SWEEPS, Order, Solution, solve
from qcompiler.pipeline.journal import Arrays


class Solver(enum.StrEnum):
    """Which codes stand for a weight."""

    RTN = "rtn"
    MSE = "mse"
    HQQ = "hqq"
    K_QUANT = "k_quant"
    GPTQ = "gptq"
    GPTAQ = "gptaq"

    @property
    def from_inputs(self) -> bool:
        """Whether it looks at what the weight is multiplied by."""
        return self in (Solver.GPTQ, Solver.GPTAQ)


SEARCH = {
    Solver.RTN: Search.MINMAX,
    Solver.MSE: Search.MSE,
    Solver.HQQ: Search.HQQ,
    Solver.K_QUANT: Search.K_QUANT,
}


@dataclass(frozen=True)
class Settings:
    """A solver and what it is told.

    Attributes:
        search: how scales are fitted; for the solvers that are a search, their own.
        damping: share of the mean diagonal added to the Gram matrix.
        order: rows of large inputs first.
        static_groups: scales from the weight as it is.
        sweeps: of coordinate descent over codes and scales afterwards.
    """

    solver: Solver
    search: Search
    damping: float = 0.01
    order: bool = True
    static_groups: bool = True
    sweeps: int = SWEEPS


@dataclass(frozen=True)
class Inputs:
    """What is known of the rows that a weight ``[K, N]`` is multiplied by.

    Attributes:
        importance: ``[K]`` mean squares.
        gram: ``[K, K]`` X'X / rows.
        drift: ``[K, K]`` (X_float - X)'X / rows.
    """

    importance: Float32 | None = None
    gram: Float32 | None = None
    drift: Float32 | None = None


def solve_weight(weights: Float32, stored: Format, settings: Settings, inputs: Inputs) -> Solution:
    """Codes and grid of ``weights [K, N]``: by the solver where a Gram matrix is at hand, else by its search."""
    if inputs.gram is None:
        grid = stored.fit(weights, search=settings.search, importance=inputs.importance)
        return Solution(stored.encode(weights, grid), grid)
    return solve(
        weights,
        inputs.gram,
        stored,
        drift=inputs.drift,
        search=settings.search,
        damping=settings.damping,
        order=settings.order,
        static_groups=settings.static_groups,
        sweeps=settings.sweeps,
    )


def refuse_nonsense(stored: Format, settings: Settings, owner: str) -> None:
    """Refuse a solver or search that makes no sense for a format.

    Raises:
        OptionError: says why, and what does make sense.
    """
    reasons = stored.searches()
    if reason := reasons.get(settings.search, "it is not known there"):
        fitting = [str(search) for search, why in reasons.items() if not why]
        known = {search: str(solver) for solver, search in SEARCH.items()}
        offered = ", ".join(known.get(Search(word), word) for word in fitting)
        raise OptionError(
            f"pass {owner}: {settings.search} for {stored.name}: {reason}; searches that fit: {offered}."
        )
    if not settings.static_groups and stored.span is None:
        raise OptionError(
            f"pass {owner}: static_groups=false for {stored.name}: its scales are fitted across the whole matrix; "
            "leave it out."
        )


def as_arrays(solution: Solution) -> Arrays:
    """A solution as the journal keeps it."""
    optional = {
        "offset": solution.grid.offset,
        "zero_point": solution.grid.zero_point,
        "order": solution.order,
    }
    arrays: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
        "codes": solution.codes,
        "scale": solution.grid.scale,
    }
    arrays |= {name: array for name, array in optional.items() if array is not None}
    return arrays | {f"part.{name}": array for name, array in solution.grid.parts.items()}


def from_arrays(arrays: Arrays) -> Solution:
    """The inverse of :func:`as_arrays`."""
    parts = {name.removeprefix("part."): array for name, array in arrays.items() if name.startswith("part.")}
    offset, zero_point, order = (arrays.get(name) for name in ("offset", "zero_point", "order"))
    grid = Grid(
        np.asarray(arrays["scale"], np.float32),
        None if offset is None else np.asarray(offset, np.float32),
        None if zero_point is None else np.asarray(zero_point, np.uint8),
        parts,
    )
    codes: Codes = np.asarray(arrays["codes"], np.uint8)
    rows: Order | None = None if order is None else np.asarray(order, np.int64)
    return Solution(codes, grid, rows)


def recalled(
    find: Callable[[str, Callable[[], Arrays]], Arrays], key: str, make: Callable[[], Solution]
) -> Solution:
    """What ``make`` returns, remembered under ``key`` by ``find``."""
    return from_arrays(find(key, lambda: as_arrays(make())))
