"""Loops over rows that do not depend on each other: in parallel where there is enough to do."""

from __future__ import annotations

from collections.abc import Callable

from qcompiler.backends.tvm.kernels.vectors import Expr, T

FEW = 16384
"""Values that one thread is through with before another has woken up."""


def each_row(rows: Expr, columns: Expr, body: Callable[[Expr], None]) -> None:
    """Emit ``body`` for every row: once in a loop of one thread, for few values, and once in a parallel one."""
    with T.If(rows <= T.floordiv(FEW, T.max(columns, 1))):
        with T.Then(), T.serial(0, rows) as row:
            body(row)
        with T.Else(), T.parallel(0, rows) as row:
            body(row)
