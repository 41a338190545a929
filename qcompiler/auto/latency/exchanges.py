"""Neighbours of which one computes on codes and the other in float: which pairs to time, and what each takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

Times = npt.NDArray[np.float64]


def two_colours(count: int, edges: Iterable[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """``[count]`` zeros and ones, one after another so that most edges join two different ones."""
    neighbours: dict[int, set[int]] = {row: set() for row in range(count)}
    for one, other in edges:
        neighbours[one].add(other)
        neighbours[other].add(one)
    colours = np.full(count, -1, np.int64)
    for row in range(count):
        given = [colours[other] for other in neighbours[row] if colours[other] >= 0]
        zeros = sum(colour == 0 for colour in given)
        previous = colours[row - 1] if row else 1
        colours[row] = 1 if 2 * zeros > len(given) else 0 if 2 * zeros < len(given) else 1 - previous
    return colours


def excess_by_edge(
    excess: Times, on_codes: npt.NDArray[np.bool_], edges: Sequence[tuple[int, int]]
) -> dict[tuple[int, int], float]:
    """What each edge between a group on codes and one in float takes, by (the one on codes, the other).

    A group's excess is shared by its edges to the other kind.  Where the sum is positive, edges with less than nothing
    count as nothing and the others keep the sum.

    Args:
        excess: ``[groups]`` milliseconds more than in a uniform model.
        on_codes: ``[groups]``.
        edges: pairs of neighbours.
    """
    mixed = [edge for edge in edges if on_codes[edge[0]] != on_codes[edge[1]]]
    degree = np.zeros(len(excess))
    for edge in mixed:
        degree[list(edge)] += 1
    found = {
        ((one, other) if on_codes[one] else (other, one)): excess[one] / degree[one]
        + excess[other] / degree[other]
        for one, other in mixed
    }
    total, positive = sum(found.values()), sum(ms for ms in found.values() if ms > 0)
    factor = max(total, 0.0) / positive if positive > 0 else 0.0
    return {edge: float(max(ms, 0.0) * factor) for edge, ms in found.items()}
