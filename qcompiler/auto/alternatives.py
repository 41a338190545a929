"""What other choices would have cost the groups that a search left in float, by its own estimates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.auto.facts import Estimates, Problem, Totals


@dataclass(frozen=True)
class Alternative:
    """A choice that a group did not get: by how much the whole model would differ.

    Attributes:
        choice: its name.
        size_bytes: more in the files; less where it is negative.
        latency_ms: more a run, with what passes between neighbours; 0 where nothing was timed.
        loss: more of the surrogate.
    """

    choice: str
    size_bytes: float
    latency_ms: float
    loss: float


def alternatives(
    problem: Problem, estimates: Estimates, picked: npt.NDArray[np.int64]
) -> dict[str, tuple[Alternative, ...]]:
    """Of each group in float that had a choice, by name: what loses least, what is smallest, what is fastest.

    Args:
        problem: what was decided.
        estimates: of every choice; losses of a search that was interrupted are not known, and nothing is said then.
        picked: ``[groups]`` index of the choice of each.
    """
    known = np.isfinite(estimates.size_bytes + estimates.latency_ms + estimates.loss) & problem.allowed
    if not np.any(estimates.loss[known]):
        return {}
    now = estimates.total(picked)
    found = {}
    for row in np.flatnonzero(picked == 0):
        columns = [int(at) for at in np.flatnonzero(known[row]) if at]
        options = [_option(problem, estimates, picked, int(row), column, now) for column in columns]
        if options:
            found[problem.groups[row].name] = tuple(dict.fromkeys(_best(options)))
    return found


def _option(
    problem: Problem,
    estimates: Estimates,
    picked: npt.NDArray[np.int64],
    row: int,
    column: int,
    now: Totals,
) -> Alternative:
    other = picked.copy()
    other[row] = column
    then = estimates.total(other)
    return Alternative(
        problem.choices[column].name,
        then.size_bytes - now.size_bytes,
        then.latency_ms - now.latency_ms,
        then.loss - now.loss,
    )


def _best(options: list[Alternative]) -> Iterator[Alternative]:
    yield min(options, key=lambda each: each.loss)
    yield min(options, key=lambda each: (each.size_bytes, each.loss))
    yield min(options, key=lambda each: (each.latency_ms, each.loss))
