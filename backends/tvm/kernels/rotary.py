"""Heads turned by their position (RoPE, arXiv 2104.09864), as RotaryEmbedding of ONNX defines it.

    y[i] = x[i] * cos[p, i] - x[i + R/2] * sin[p, i]
    y[i + R/2] = x[i + R/2] * cos[p, i] + x[i] * sin[p, i]        for i < R/2

Interleaved: pairs are neighbours (2i, 2i + 1) instead of halves.  Values behind the first R stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.row_loop import each_row
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    PrimFunc,
    T,
    build,
    let,
    load_part,
    parameter,
    rows_parameter,
    splat,
    store_part,
)

Put = Callable[[int, Expr, int], None]
"""Called with the first column of a head, a float vector, and how many of its lanes are values."""


@dataclass(frozen=True)
class Turn:
    """How a head is turned.

    Attributes:
        size: values of a head.
        turned: R, how many of them are turned: even, 0 for none.
        interleaved: whether pairs are neighbours.
    """

    size: int
    turned: int
    interleaved: bool = False

    def emit(
        self, source: Buffer, place: Sequence[Expr], tables: Sequence[Buffer], row: Expr, put: Put
    ) -> None:
        """Read the head that starts at ``place`` and hand its turned vectors to ``put``.

        Args:
            source: float32.
            place: indices of the head's first value.
            tables: cos and sin, float32 ``[L, R/2]``.
            row: of the tables.
        """
        pairs = self._neighbours if self.interleaved else self._halves
        for first in range(0, self.turned // 2, LANES):
            valid = min(LANES, self.turned // 2 - first)
            cos, sin = (load_part(table, [row, T.int32(first)], valid) for table in tables)
            pairs(source, place, first, valid, (cos, sin), put)
        for first in range(self.turned, self.size, LANES):
            valid = min(LANES, self.size - first)
            put(first, load_part(source, _moved(place, first), valid), valid)

    def _halves(
        self,
        source: Buffer,
        place: Sequence[Expr],
        first: int,
        valid: int,
        tables: tuple[Expr, Expr],
        put: Put,
    ) -> None:
        (cos, sin), second = tables, first + self.turned // 2
        a, b = (load_part(source, _moved(place, column), valid) for column in (first, second))
        put(first, a * cos - b * sin, valid)
        put(second, b * cos + a * sin, valid)

    def _neighbours(
        self,
        source: Buffer,
        place: Sequence[Expr],
        first: int,
        valid: int,
        tables: tuple[Expr, Expr],
        put: Put,
    ) -> None:
        (cos, sin), counts = tables, (min(LANES, 2 * valid), max(0, 2 * valid - LANES))
        vectors = [
            load_part(source, _moved(place, 2 * first + LANES * i), count) if count else splat(T.float32(0.0))
            for i, count in enumerate(counts)
        ]
        a, b = (let(T.Shuffle(vectors, list(range(odd, 2 * LANES, 2)))) for odd in (0, 1))
        turned = [let(a * cos - b * sin), let(b * cos + a * sin)]
        woven = [lane // 2 + LANES * (lane % 2) for lane in range(2 * LANES)]
        for i, count in enumerate(counts):
            if count:
                put(2 * first + LANES * i, T.Shuffle(turned, woven[LANES * i : LANES * (i + 1)]), count)


@dataclass(frozen=True)
class Rotary:
    """The operator alone.

    Attributes:
        heads: of every row.
        turn: of each head.

    Parameters of the PrimFunc, in this order: ``x`` float32 ``[M, heads * size]``; ``positions`` int64 ``[M]``, held
    within the tables; ``cos`` and ``sin`` float32 ``[L, R/2]``; ``y`` float32 ``[M, heads * size]``.
    """

    heads: int
    turn: Turn
    variant: Variant


def rotary(spec: Rotary, name: str = "rotary") -> PrimFunc:
    """The kernel: the same for every variant."""
    return build(name, lambda: _body(spec))


def _body(spec: Rotary) -> None:
    rows, length, turn = rows_parameter(), rows_parameter(), spec.turn
    x = parameter("x", (rows, spec.heads * turn.size), "float32")
    positions = parameter("positions", (rows,), "int64")
    tables = [parameter(name, (length, turn.turned // 2), "float32") for name in ("cos", "sin")]
    y = parameter("y", (rows, spec.heads * turn.size), "float32")

    def turn_row(row: Expr) -> None:
        position = let(T.max(T.min(T.cast(positions[row], "int32"), length - 1), T.int32(0)))
        with T.serial(0, spec.heads) as head:
            start = head * turn.size

            def put(column: int, value: Expr, valid: int) -> None:
                store_part(y, [row, start + column], value, valid)

            turn.emit(x, [row, start], tables, position, put)

    each_row(rows, T.int32(spec.heads * turn.size), turn_row)


def _moved(place: Sequence[Expr], columns: int) -> list[Expr]:
    return [*place[:-1], place[-1] + columns]
