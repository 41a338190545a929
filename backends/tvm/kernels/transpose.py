"""Sixteen vectors as a square: its transpose, and the sums of its rows."""

from __future__ import annotations

from qcompiler.backends.tvm.kernels.vectors import LANES, Expr, T, let


def transposed(rows: list[Expr]) -> list[Expr]:
    """Vector ``j`` of the result holds lane ``j`` of all 16 vectors."""
    for step in (8, 4, 2, 1):
        for i in range(LANES):
            if not i & step:
                rows[i], rows[i + step] = _exchanged(rows[i], rows[i + step], step)
    return rows


def row_sums(rows: list[Expr]) -> Expr:
    """One vector: lane ``i`` is the sum of the lanes of vector ``i``."""
    step = LANES
    while step > 1:
        step //= 2
        pairs = [_exchanged(rows[i], rows[i + step], step) for i in range(step)]
        rows = [let(first + second) for first, second in pairs]
    return rows[0]


def _exchanged(a: Expr, b: Expr, step: int) -> tuple[Expr, Expr]:
    """The off-diagonal blocks of ``step`` lanes change places."""
    low = [lane if not lane & step else LANES + lane - step for lane in range(LANES)]
    high = [lane + step if not lane & step else LANES + lane for lane in range(LANES)]
    return let(T.Shuffle([a, b], low)), let(T.Shuffle([a, b], high))
