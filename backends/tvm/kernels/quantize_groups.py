"""Float rows to int8 codes with a scale for every group of columns: largest magnitude / 127."""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.backends.tvm.kernels.row_loop import each_row
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    Register,
    T,
    across,
    cast,
    let,
    load_part,
    round_to_int,
    splat,
    store,
)

_GRID = 127.0


@dataclass(frozen=True)
class GroupCodes:
    """A float matrix and where its codes go.

    Attributes:
        source: float32 ``[M, K]``.
        codes: int8 ``[M, G * group]``; columns behind K become 0.
        scale: float32 ``[M, G]``.
        total: int32 ``[M, G]``: the sum of each group's codes.
        group: columns that share a scale, a multiple of 16.
        columns: K.
    """

    source: Buffer
    codes: Buffer
    scale: Buffer
    total: Buffer
    group: int
    columns: int

    def quantize(self, rows: Expr) -> None:
        """Write codes, scales and sums of all rows."""
        whole, rest = divmod(self.columns, self.group)
        valid = [min(LANES, max(0, rest - first)) for first in range(0, self.group, LANES)]

        def codes_of(row: Expr) -> None:
            if whole:
                with T.serial(0, whole) as index:
                    self._group(row, index, [LANES] * (self.group // LANES))
            if rest:
                self._group(row, whole, valid)

        each_row(rows, self.columns, codes_of)

    def _group(self, row: Expr, index: Expr, valid: list[int]) -> None:
        """One group, of whose vectors so many lanes exist."""
        first = index * self.group
        values = [
            let(load_part(self.source, [row, first + i * LANES], lanes)) if lanes else None
            for i, lanes in enumerate(valid)
        ]
        largest, count = Register("float32"), Register("int32")
        largest.set(splat(T.float32(0.0)))
        count.set(splat(T.int32(0)))
        for value in values:
            if value is not None:
                largest.set(T.max(largest.value, T.max(value, splat(T.float32(0.0)) - value)))
        step = let(across(largest.value, T.max) / T.float32(_GRID))
        scale = let(T.Select(step > T.float32(0.0), step, T.float32(1.0)))
        for i, value in enumerate(values):
            codes = splat(T.int32(0)) if value is None else let(round_to_int(value / splat(scale)))
            count.set(count.value + codes)
            store(self.codes, [row, first + i * LANES], cast(codes, "int8"))
        T.buffer_store(self.scale, scale, [row, index])
        T.buffer_store(self.total, across(count.value, lambda a, b: a + b), [row, index])
