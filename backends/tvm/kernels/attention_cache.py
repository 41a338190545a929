"""Keys and values that attention reads: those of earlier steps and the new ones behind them.

Stored as float32 or as int8 codes with a scale for every channel of a head (after KIVI, arXiv 2402.02750, with fixed
scales):  code = clip(round(x / scale), -128, 127).
"""

from __future__ import annotations

from dataclasses import dataclass

from qcompiler.backends.tvm.kernels.transpose import transposed
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    T,
    cast,
    let,
    load_part,
    round_to_int,
    splat,
    store,
    store_part,
)


@dataclass(frozen=True)
class Store:
    """Keys or values.

    Attributes:
        past: ``[B, kv_heads, P, size]``, or None.
        present: ``[B, kv_heads, T, size]``, of the same type.
        scale: float32 ``[kv_heads, size]`` where they are codes, or None.
        size: values of a head.
    """

    past: Buffer | None
    present: Buffer
    scale: Buffer | None
    size: int

    def columns(self) -> list[tuple[int, int]]:
        """``(first column, valid lanes)`` of the vectors of a head."""
        return [(first, min(LANES, self.size - first)) for first in range(0, self.size, LANES)]

    def read(self, head: list[Expr], row: Expr, first: Expr, valid: int) -> Expr:
        """float32 x 16: stored values, codes without their scale."""
        value = load_part(self.present, [*head, row, first], valid)
        return value if self.scale is None else let(cast(value, "float32"))

    def write(self, head: list[Expr], row: Expr, first: int, value: Expr, valid: int) -> None:
        """Store float values."""
        if self.scale is not None:
            scaled = value / load_part(self.scale, [head[1], T.int32(first)], valid, fill=1.0)
            low, high = splat(T.float32(-128.0)), splat(T.float32(127.0))
            value = cast(round_to_int(T.min(T.max(scaled, low), high)), "int8")
        store_part(self.present, [*head, row, T.int32(first)], value, valid)

    def begin(self, head: list[Expr], kept: Expr, used: Expr, length: Expr) -> None:
        """Copy ``kept`` rows of the past; rows from ``used`` to ``length`` become 0."""
        if self.past is None:
            return
        with T.serial(0, kept) as row:
            for first, valid in self.columns():
                place = [*head, row, T.int32(first)]
                store_part(self.present, place, load_part(self.past, place, valid), valid)
        zero = T.int8(0) if self.scale is not None else T.float32(0.0)
        with T.serial(0, length - used) as row:
            for first, valid in self.columns():
                store_part(self.present, [*head, used + row, T.int32(first)], splat(zero), valid)

    def transpose(self, head: list[Expr], rows: Expr, target: Buffer) -> None:
        """Write the first ``rows`` to ``target`` ``[B, kv_heads, >= rows / 16, size, 16]``.

        The last block repeats the last row, so that nothing behind it is read.
        """
        whole, rest = divmod(self.size, LANES)
        with T.serial(0, T.floordiv(rows + LANES - 1, LANES)) as block:
            if whole:
                with T.serial(0, whole) as chunk:
                    self._square(head, rows, block, chunk * LANES, LANES, target)
            if rest:
                self._square(head, rows, block, T.int32(whole * LANES), rest, target)

    def _square(
        self, head: list[Expr], rows: Expr, block: Expr, first: Expr, valid: int, target: Buffer
    ) -> None:
        vectors = [
            self.read(head, let(T.min(block * LANES + i, rows - 1)), first, valid) for i in range(LANES)
        ]
        for i, column in enumerate(transposed(vectors)[:valid]):
            store(target, [*head, block, first + i, 0], column)
