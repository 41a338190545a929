"""Nearest of a table's levels by one look-up and one comparison."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]

CELLS = 2048
"""Cells that the range of the levels is cut into; each holds one boundary between levels at most."""


@dataclass(frozen=True)
class Rounding:
    """What :func:`nearest` needs of a table.

    Attributes:
        low: smallest level.
        per_cell: a value's cell is ``(value - low) * per_cell``, cut off and clipped.
        boundary: ``[CELLS]`` the boundary inside a cell, or the last one before it.
        below: ``[CELLS]`` the code under that boundary.
        above: ``[CELLS]`` the code from that boundary on.
    """

    low: np.float32
    per_cell: np.float32
    boundary: Float32
    below: Codes
    above: Codes


def rounding(levels: Float32) -> Rounding:
    """Prepare rounding to ``levels [L]``, in any order; of equal levels (two zeros) the first is given.

    Raises:
        ValueError: two boundaries fall into one cell.
    """
    values, codes = np.unique(levels, return_index=True)
    middles = ((values[1:] + values[:-1]) / 2).astype(np.float32)
    low = np.float32(values[0])
    per_cell = np.float32(CELLS - 1) / np.float32(values[-1] - low)
    cell = ((middles - low) * per_cell).astype(np.intp)
    if np.unique(cell).size < cell.size:
        raise ValueError(f"{levels.size} levels lie too close together for {CELLS} cells")
    passed = np.searchsorted(cell, np.arange(CELLS), side="right")
    padded = np.concatenate([np.array([-np.inf], np.float32), middles])
    names = codes.astype(np.uint8)
    return Rounding(low, per_cell, padded[passed], names[np.maximum(passed - 1, 0)], names[passed])


def nearest(values: Float32, table: Rounding) -> Codes:
    """Codes of the levels nearest to ``values``; half-way the larger level."""
    cell = values - table.low
    cell *= table.per_cell
    np.clip(cell, 0, CELLS - 1, out=cell)
    index = cell.astype(np.int16)
    up = values >= table.boundary[index]
    return np.where(up, table.above[index], table.below[index])
