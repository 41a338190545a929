"""Rows of an embedding table of 2, 4 or 8 bits: only those that are asked for are read and dequantized.

    y[m, d] = scale[i, g] * (code[i, d] - offset)            by default
    y[m, d] = scale[i, g] * code[i, d] - minimum[i, g]       with minima (zero points: scale * zero_point)
    y[m, d] = scale[i, g] * table[code[i, d]]                with a table

``i = ids[m]``, ``g = d // group``.  A byte holds columns that are 16 apart, so that a vector of 16 bytes becomes
vectors of neighbouring columns by shifts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.row_loop import each_row
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    PrimFunc,
    T,
    build,
    cast,
    let,
    load,
    parameter,
    rows_parameter,
    splat,
    store,
    store_part,
)


@dataclass(frozen=True)
class GatherRows:
    """One kernel; the same for every variant.

    Attributes:
        entries: V, rows of the table.
        columns: D.
        bits: 2, 4 or 8.
        group: columns that share a scale: a multiple of 16, or all of them.
        offset: code of the value 0; without effect where there are minima or a table.
        minimum: each group has a minimum: one more parameter.
        table: levels are looked up: one more parameter.

    Parameters of the PrimFunc, in this order: ``ids`` int64 ``[M]``, negative ones from the end, others held within
    the table; ``codes`` uint8 ``[V, W]`` as :func:`pack` gives; ``scale`` float32 ``[V, G]``; ``minimum``, the same;
    ``table`` float32 ``[2^bits]``; ``y`` float32 ``[M, D]``.
    """

    entries: int
    columns: int
    bits: int
    group: int
    variant: Variant
    offset: int = 0
    minimum: bool = False
    table: bool = False

    @property
    def groups(self) -> int:
        return -(-self.columns // self.group)

    @property
    def width(self) -> int:
        """Bytes of a row: whole vectors of 16."""
        return -(-self.columns // (LANES * 8 // self.bits)) * LANES


def pack(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint8]:
    """``[V, D]`` to ``[V, W]``: the lowest bits of 16 bytes are the first 16 columns, the next bits the next 16."""
    steps = 8 // bits
    padded = np.pad(codes, ((0, 0), (0, -codes.shape[1] % (LANES * steps))))
    parts = padded.reshape(len(codes), -1, steps, LANES)
    packed = np.zeros((len(codes), parts.shape[1], LANES), np.uint8)
    for step in range(steps):
        packed |= parts[:, :, step] << np.uint8(bits * step)
    return packed.reshape(len(codes), -1)


def gather_rows(spec: GatherRows, name: str = "gather_rows") -> PrimFunc:
    """The kernel.

    Raises:
        ValueError: a group that is neither a multiple of 16 nor a whole row.
    """
    if spec.group % LANES and spec.group < spec.columns:
        raise ValueError(f"a group of {spec.group} columns is no multiple of {LANES} and no whole row")
    return build(name, lambda: _Gather(spec).body())


class _Gather:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: GatherRows) -> None:
        self.spec, groups = spec, (spec.entries, spec.groups)
        self.rows = rows_parameter()
        self.ids = parameter("ids", (self.rows,), "int64")
        self.codes = parameter("codes", (spec.entries, spec.width), "uint8")
        self.scale = parameter("scale", groups, "float32")
        self.minimum: Buffer = parameter("minimum", groups, "float32") if spec.minimum else None
        self.table: Buffer = parameter("table", (1 << spec.bits,), "float32") if spec.table else None
        self.result = parameter("y", (self.rows, spec.columns), "float32")

    def body(self) -> None:
        each_row(self.rows, T.int32(self.spec.columns), self._row)

    def _row(self, row: Expr) -> None:
        span = LANES * 8 // self.spec.bits
        whole, rest = divmod(self.spec.columns, span)
        entry = self._entry(row)
        if whole:
            with T.serial(0, whole) as index:
                self._bytes(row, entry, index, span)
        if rest:
            self._bytes(row, entry, T.int32(whole), rest)

    def _entry(self, row: Expr) -> Expr:
        given, entries = let(self.ids[row]), T.int64(self.spec.entries)
        wrapped = T.Select(given < T.int64(0), given + entries, given)
        return let(T.cast(T.min(T.max(wrapped, T.int64(0)), entries - T.int64(1)), "int32"))

    def _bytes(self, row: Expr, entry: Expr, index: Expr, columns: int) -> None:
        """The columns of 16 bytes, of which so many exist."""
        bits = self.spec.bits
        packed = let(load(self.codes, [entry, index * LANES]))
        for step in range(-(-columns // LANES)):
            shifted = T.shift_right(packed, splat(T.uint8(bits * step))) if step else packed
            codes = shifted if bits == 8 else T.bitwise_and(shifted, splat(T.uint8((1 << bits) - 1)))
            first = let(index * (LANES * 8 // bits) + LANES * step)
            value = self._value(let(codes), entry, first)
            store_part(self.result, [row, first], value, min(LANES, columns - LANES * step))

    def _value(self, codes: Expr, entry: Expr, first: Expr) -> Expr:
        group = T.int32(0) if self.spec.groups == 1 else T.floordiv(first, self.spec.group)
        scale = splat(self.scale[entry, group])
        if self.table is not None:
            return self._levels(codes) * scale
        value = cast(cast(codes, "int32"), "float32")
        if self.minimum is not None:
            return value * scale - splat(self.minimum[entry, group])
        return (value - splat(T.float32(self.spec.offset))) * scale

    def _levels(self, codes: Expr) -> Expr:
        places, levels = (T.alloc_buffer((LANES,), kind) for kind in ("uint8", "float32"))
        store(places, [0], codes)
        with T.serial(0, LANES) as lane:
            T.buffer_store(levels, self.table[T.cast(places[lane], "int32")], [lane])
        return let(load(levels, [0]))
