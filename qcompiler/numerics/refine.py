"""Coordinate descent on codes and scales: what a greedy solver leaves on the table (as QuantEase, arXiv:2309.01885).

With target T, values Q and H = X'X the output error is ``tr((T - Q)' H (T - Q))``.  With all other rows fixed it is
least in row k at ``q[k] + (H (T - Q))[k] / H[k, k]``, of which the nearest level is taken; with all codes fixed it is
a parabola in each scale, whose vertex is rounded to 16 bits and taken where that helps.  No step raises the error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.formats.base import Codes, Float32, Format, Grid
from qcompiler.numerics.formats.half import half_nearest

Span = tuple[int, int]

ROWS = 128
"""At least so many rows get their residual from one product with all others; at most so many from one another."""


def refine(
    target: Float32, gram: npt.NDArray[np.floating], codes: Codes, grid: Grid, fmt: Format, *, sweeps: int
) -> tuple[Codes, Grid]:
    """Improve ``codes`` and, where scales are stored as they are, ``grid``.

    Args:
        target: ``[K, N]``, what the values stand for.
        gram: X'X ``[K, K]`` with a positive diagonal, rows as in ``codes``.
        codes: ``[K, N]`` uint8; not changed.
        grid: of ``codes``; not changed.
        fmt: the format of both.
        sweeps: how often all rows are gone through, at most; it ends when no code changes.

    Returns:
        Codes and grid with an output error that is not above the one before.
    """
    descent = _start(target, gram, codes, grid, fmt)
    for _ in range(sweeps):
        if not descent.sweep():
            break
    scale, zero = descent.scale, grid.zero_point
    if not descent.fits_scales:
        return descent.codes, grid
    return descent.codes, replace(grid, scale=scale, offset=None if zero is None else scale * zero)


def _start(
    target: Float32, gram: npt.NDArray[np.floating], codes: Codes, grid: Grid, fmt: Format
) -> _Descent:
    values = fmt.decode(codes, grid)
    narrow = np.ascontiguousarray(gram, dtype=np.float32)
    fits_scales = not grid.parts and (grid.offset is None or grid.zero_point is not None)
    return _Descent(
        fmt, narrow, codes.copy(), values, target - values, grid, grid.scale.copy(), fits_scales=fits_scales
    )


@dataclass(frozen=True)
class _Descent:
    """Where the descent stands; arrays are changed in place.

    Attributes:
        values: what ``codes`` stand for, ``[K, N]``.
        errors: target less ``values``, ``[K, N]``.
        scale: ``[G, N]``.
    """

    fmt: Format
    gram: Float32
    codes: Codes
    values: Float32
    errors: Float32
    grid: Grid
    scale: Float32
    fits_scales: bool

    def sweep(self) -> bool:
        """Go through all rows once; whether any code changed."""
        size = self.fmt.group or len(self.codes)
        changed = False
        for first, last in _spans(0, len(self.codes), -(-ROWS // size) * size):
            residual = self.gram[first:last] @ self.errors
            before = self.values[first:last].copy()
            for start, stop in _spans(first, last, size):
                moved = self.values[first:start] - before[: start - first]
                now = residual[start - first : stop - first] - self.gram[start:stop, first:start] @ moved
                changed |= self._group(start, stop, now)
            self.errors[first:last] -= self.values[first:last] - before
        return changed

    def _group(self, start: int, stop: int, residual: Float32) -> bool:
        """Fit the scale of rows ``start`` to ``stop``, all of one group, then their codes."""
        group = 0 if self.fmt.group is None else start // self.fmt.group
        if self.fits_scales:
            residual = self._fit_scale(group, slice(start, stop), residual)
        changed = False
        before = self.values[start:stop].copy()
        for first, last in _spans(start, stop, ROWS):
            moved = self.values[start:first] - before[: first - start]
            now = residual[first - start : last - start] - self.gram[first:last, start:first] @ moved
            changed |= self._rows(first, last, group, now)
        return changed

    def _fit_scale(self, group: int, rows: slice, residual: Float32) -> Float32:
        old = self.scale[group]
        unit = self.values[rows] / old
        inner = self.gram[rows, rows] @ unit
        slope, bend = np.einsum("kn,kn->n", unit, residual), np.einsum("kn,kn->n", unit, inner)
        step = np.where(bend > 0, slope / np.where(bend > 0, bend, 1), 0)
        # A scale that leaps would send codes past the ends of the ladder.
        new = half_nearest((old + np.clip(step, -0.5 * np.abs(old), np.abs(old))).astype(np.float32))
        step = new - old
        new = np.where(step * (2 * slope - step * bend) > 0, new, old)
        step = new - old
        self.scale[group] = new
        self.values[rows] = self.fmt.values_of(self.codes[rows], new, self._offset(group))
        rest: Float32 = residual - inner * step
        return rest

    def _rows(self, first: int, last: int, group: int, residual: Float32) -> bool:
        """Take the best level for one row after another."""
        offset = self._offset(group)
        moved = np.zeros((last - first, self.values.shape[1]), np.float32)
        changed = False
        for k in range(first, last):
            rest = residual[k - first] - self.gram[k, first:k] @ moved[: k - first]
            codes = self.fmt.codes_of(self.values[k] + rest / self.gram[k, k], self.scale[group], offset)
            if np.array_equal(codes, self.codes[k]):
                continue
            values = self.fmt.values_of(codes, self.scale[group], offset)
            moved[k - first] = values - self.values[k]
            self.codes[k], self.values[k] = codes, values
            changed = True
        return changed

    def _offset(self, group: int) -> Float32 | None:
        if self.grid.offset is None:
            return None
        offset: Float32 = self.grid.offset[group]
        if self.fits_scales and self.grid.zero_point is not None:
            offset = self.scale[group] * self.grid.zero_point[group]
        return offset


def _spans(first: int, last: int, size: int) -> Iterator[Span]:
    for start in range(first, last, size):
        yield start, min(start + size, last)
