"""The least that any assignment takes, found before anything is calibrated, so that a contradiction costs seconds.

Choices are lowered with rounded codes, those of the fewest bits first, until none that is left can be smaller: a format
takes its own bits at least, in whatever file.  Of these the program picks the smallest assignment that keeps the bound
on bits, and that one is written: its bytes are possible.  Ranges come from one sample; they change no byte count.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from qcompiler.auto.bounds import shown_size
from qcompiler.auto.builds import Builds
from qcompiler.auto.facts import FLOAT, Assignment, Bounds, Estimates, Problem, Table, Totals
from qcompiler.auto.sizes import build_size_bytes, constant_bytes, graph_bytes, group_bytes
from qcompiler.auto.solve import Limits, Solution, solve
from qcompiler.data import FeedSource
from qcompiler.errors import OutputError, QCompilerError, UnsupportedError
from qcompiler.package.deployed import is_deployed
from qcompiler.samples import FirstFeeds

logger = logging.getLogger(__name__)

EXPORTED_CODE = 0.5
"""Share of a compiled library's constants that any other assignment has at least; kernels may lay them out anew."""


@dataclass(frozen=True)
class Least:
    """The smallest model.

    Attributes:
        assignment: what makes it.
        size_bytes: of its files.
        below: bytes under which there is no other: as many where the file is the graph; where it is machine code too,
            which other choices may have less of, what constants take.
    """

    assignment: Assignment
    size_bytes: int
    below: float


def least_model(bench: Builds, bounds: Bounds) -> Least | None:
    """The smallest model within the bound on bits; None where no assignment keeps that."""
    problem = bench.problem
    cells = _cells(bench)
    still = np.where(problem.allowed, 0.0, np.nan)
    found = solve(
        problem,
        Estimates(cells, still, still, Totals(0.0, 0.0, 0.0)),
        Limits(bits=bounds.max_bits),
        "size",
    )
    if not isinstance(found, Solution):
        return None
    assignment = found.assignment(problem)
    built = bench.build(assignment, rounded=True)
    size_bytes = build_size_bytes(built)
    code = is_deployed(built.path)
    return Least(
        assignment, size_bytes, EXPORTED_CODE * constant_bytes(built.deployed) if code else size_bytes
    )


def refuse_contradictions(bench: Builds, bounds: Bounds, scratch: Path) -> Least | None:
    """Refuse a size that no choice can reach; what can be reached otherwise, None where no size is bounded.

    Args:
        bench: of the search that is to begin.
        bounds: what must hold.
        scratch: an empty folder for models that nobody needs later.

    Raises:
        UnsupportedError: says what is possible.
    """
    if bounds.max_size_bytes is None:
        return None
    bench.tell("finding the least size")
    samples = replace(bench.samples, calibration=_first(bench.samples.calibration))
    least = least_model(bench.apart(samples, scratch), bounds)
    if least is not None and bounds.max_size_bytes < least.below:
        kept = "" if bounds.max_bits is None else f" within {bounds.max_bits:g} bits a weight"
        code = " with the code of its kernels" if least.below < least.size_bytes else ""
        raise UnsupportedError(
            f"--max-size is {shown_size(bounds.max_size_bytes)}, and the least that is possible{kept} is "
            f"{shown_size(least.size_bytes, up=True)}{code}. Give more, or another target."
        )
    return least


def _first(samples: FeedSource | None) -> FeedSource | None:
    return None if samples is None else FirstFeeds(samples, 1)


def _cells(bench: Builds) -> Table:
    """``[groups, choices]`` bytes as lowered; NaN where it is not allowed, or another choice is known to be smaller.

    What lies between groups counts for those that were given the choice, in equal parts.
    """
    problem, reference = bench.problem, bench.reference
    cells = np.full(problem.allowed.shape, np.nan)
    plain = bench.lowered({})
    exact = group_bytes(plain, problem, reference)
    cells[:, problem.choice(FLOAT)] = exact
    base = graph_bytes(plain) - exact.sum()
    for at in _by_bits(problem):
        rows = np.flatnonzero(problem.allowed[:, at])
        wanted = rows[[not _beaten(problem, cells, int(row), at) for row in rows]]
        if not len(wanted):
            continue
        name = problem.choices[at].name
        try:
            lowered = bench.lowered({problem.groups[row].name: name for row in wanted}, rounded=True)
        except OutputError:
            raise
        except QCompilerError as error:
            logger.info("%s cannot be built: %s", name, error)  # the search says so, and leaves it out
            continue
        own = group_bytes(lowered, problem, reference)[wanted]
        others = np.delete(exact, wanted).sum()
        cells[wanted, at] = own + (graph_bytes(lowered) - own.sum() - others - base) / len(wanted)
    return cells


def _by_bits(problem: Problem) -> list[int]:
    """Choices but float, those of the fewest bits a weight first."""
    parameters = np.array([group.parameters for group in problem.groups], np.float64)
    bits = [
        np.nansum(column[allowed]) / max(parameters[allowed].sum(), 1)
        for column, allowed in zip(problem.stored_bits.T, problem.allowed.T, strict=True)
    ]
    order = [int(at) for at in np.argsort(bits, kind="stable")]
    return [at for at in order if problem.choices[at].name != FLOAT]


def _beaten(problem: Problem, cells: Table, row: int, at: int) -> bool:
    """Whether a choice that was lowered has fewer bits, and takes less than this one must."""
    least, known = problem.stored_bits[row, at], np.isfinite(cells[row])
    return bool(((cells[row] <= least / 8) & (problem.stored_bits[row] <= least))[known].any())


def solution_of(problem: Problem, least: Least) -> Solution | None:
    """The smallest assignment as a solution; None where choices have other names by now."""
    names = {choice.name for choice in problem.choices}
    if not names.issuperset(least.assignment.values()):
        return None
    picked = problem.indices(least.assignment)
    weights = max(sum(group.parameters for group in problem.groups), 1)
    bits = float(problem.stored_bits[np.arange(len(picked)), picked].sum()) / weights
    return Solution(picked, Totals(least.size_bytes, 0.0, 0.0), bits)


def with_least(problem: Problem, base: float, table: Table, least: Least | None) -> Table:
    """Bytes of choices, made less in equal shares where their sum is more than the smallest model has."""
    found = None if least is None else solution_of(problem, least)
    if found is None:
        return table
    rows = np.arange(len(found.picked))
    cells = table[rows, found.picked]
    excess = base + cells.sum() - found.predicted.size_bytes
    if not excess > 0:
        return table
    fitted = table.copy()
    fitted[rows, found.picked] = cells * (1 - excess / cells.sum())
    return fitted
