"""Attention with a cache of keys and values, heads in groups, positions turned inside.

    y[b, s, h] = sum_t softmax_t(scale * q[b, s, h] . k[b, t, h / G] + mask) * v[b, t, h / G]

Semantics of ``com.microsoft::GroupQueryAttention``: new keys and values are turned by their position and put behind
the past of their row of the batch; row ``s`` sees keys up to its own.  Without cache and mask it is the plain
attention of an encoder.  Work is split over batches, heads of keys and tiles of queries.  Many rows multiply by keys
that are transposed first; few (decoding) read them as they are stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.attention_cache import Store
from qcompiler.backends.tvm.kernels.attention_tile import REGISTERS, ChangeScores, Registers, Tile, soft_cap
from qcompiler.backends.tvm.kernels.rotary import Turn
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    PrimFunc,
    T,
    build,
    let,
    load,
    load_part,
    opaque,
    parameter,
    rows_parameter,
    splat,
    store_part,
)

FEW_ROWS = 8
"""Rows of queries for one head of keys from which transposing the keys pays."""

Cache = Literal["none", "append", "in_place"]


@dataclass(frozen=True)
class Attention:
    """One kernel.

    Attributes:
        heads: of queries, a multiple of ``kv_heads``.
        kv_heads: of keys and values.
        turn: size of a head, and how queries and new keys are turned (``Turn(size, 0)``: not at all).
        cache: none: keys are those given; append: past and present are different memory, and the past is copied;
            in_place: one buffer with room behind the past.
        codes: the cache is int8.
        packed: queries, keys and values come side by side in one matrix.
        causal: a row sees no later keys.
        window: keys that a row sees, itself included; 0 for all.
        mask: a mask is added to the scores.
        softcap: scores become ``softcap * tanh(score / softcap)``; 0 for no.
        scale: 0 for 1 / sqrt(size).

    Parameters of the PrimFunc, in this order; ``h = size``, T is the length of the present:
    ``q`` float32 ``[B, S, heads * h]``, ``k`` and ``v`` ``[B, S, kv_heads * h]`` (``[B, T, ...]`` without cache), or
    packed ``qkv`` ``[B, S, (heads + 2 * kv_heads) * h]``; with a cache: ``past_key`` and ``past_value`` float32 or int8
    ``[B, kv_heads, P, h]`` (append), ``last`` int32 ``[B]``, each row's last key after the step, and ``total`` int32
    ``[1]``, keys of the longest row; ``cos``, ``sin`` float32 ``[L, R/2]`` (turned); ``key_scale`` and
    ``value_scale`` float32 ``[kv_heads, h]`` (codes); ``mask`` float32 ``[B or 1, heads or 1, S or 1, T]``;
    ``y`` float32 ``[B, S, heads * h]``; with append ``key``, ``value`` ``[B, kv_heads, T, h]``, which in place stand
    where the past does.  With ``total == S`` nothing of the past is kept; otherwise ``last + 1 - S`` rows are.
    """

    heads: int
    kv_heads: int
    turn: Turn
    variant: Variant
    cache: Cache = "append"
    codes: bool = False
    packed: bool = False
    causal: bool = True
    window: int = 0
    mask: bool = False
    softcap: float = 0.0
    scale: float = 0.0

    @property
    def group(self) -> int:
        return self.heads // self.kv_heads


def attention(spec: Attention, name: str = "attention") -> PrimFunc:
    """The kernel.

    Raises:
        ValueError: heads are no multiple of kv_heads, or codes or packed without what they need.
    """
    if spec.heads % spec.kv_heads:
        raise ValueError(f"{spec.heads} heads of queries are no multiple of {spec.kv_heads} of keys")
    if spec.codes and spec.cache == "none":
        raise ValueError("only a cache has codes: cache append or in_place")
    return build(name, lambda: _Attention(spec).body())


class _Attention:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: Attention) -> None:
        self.spec, size, kind = spec, spec.turn.size, "int8" if spec.codes else "float32"
        self.batch, self.rows = rows_parameter(), rows_parameter()
        self.length = self.rows if spec.packed and spec.cache == "none" else rows_parameter()
        self._take_new()
        past = self._take_past(kind) if spec.cache != "none" else [None, None]
        turned, entries = spec.turn.turned // 2, rows_parameter()
        self.tables = [parameter(name, (entries, turned), "float32") for name in ("cos", "sin") if turned]
        scales = [
            parameter(f"{name}_scale", (spec.kv_heads, size), "float32") if spec.codes else None
            for name in ("key", "value")
        ]
        self.mask_sizes = [rows_parameter() for _ in range(3)]
        self.mask: Buffer = (
            parameter("mask", (*self.mask_sizes, self.length), "float32") if spec.mask else None
        )
        self.result = parameter("y", (self.batch, self.rows, spec.heads * size), "float32")
        present = past if spec.cache == "in_place" else self._give_present(kind)
        past = [None, None] if spec.cache == "in_place" else past
        self.keys, self.values = (
            Store(*buffers, size) for buffers in zip(past, present, scales, strict=True)
        )

    def _take_new(self) -> None:
        """Queries, keys and values, with the column that each starts at."""
        spec, size = self.spec, self.spec.turn.size
        widths = {"q": spec.heads * size, "k": spec.kv_heads * size, "v": spec.kv_heads * size}
        if spec.packed:
            both = parameter("qkv", (self.batch, self.rows, sum(widths.values())), "float32")
            starts = (0, widths["q"], widths["q"] + widths["k"])
            self.q, self.k, self.v = ((both, start) for start in starts)
            return
        count = self.length if spec.cache == "none" else self.rows
        self.q, self.k, self.v = (
            (parameter(name, (self.batch, self.rows if name == "q" else count, width), "float32"), 0)
            for name, width in widths.items()
        )

    def _take_past(self, kind: str) -> list[Buffer]:
        """Keys and values of the past, with room for the new ones where they are appended in place."""
        spec = self.spec
        self.room = rows_parameter() if spec.cache == "append" else self.length
        shape = (self.batch, spec.kv_heads, self.room, spec.turn.size)
        past = [parameter(name, shape, kind) for name in ("past_key", "past_value")]
        self.last = parameter("last", (self.batch,), "int32")
        self.total = parameter("total", (1,), "int32")
        return past

    def _give_present(self, kind: str) -> list[Buffer]:
        shape = (self.batch, self.spec.kv_heads, self.length, self.spec.turn.size)
        if self.spec.cache == "none":
            return [T.alloc_buffer(shape, kind) for _ in range(2)]
        return [parameter(name, shape, kind) for name in ("key", "value")]

    def body(self) -> None:
        spec, registers = self.spec, REGISTERS[self.spec.variant]
        heads, count = (self.batch, spec.kv_heads), let(self.rows * spec.group)
        width = LANES * registers.vectors
        blocks = T.floordiv(self.length + width - 1, width) * registers.vectors
        tiles = let(T.floordiv(count + registers.rows - 1, registers.rows))
        self.count, self.scores_width = count, blocks * LANES
        self.queries = T.alloc_buffer((*heads, tiles * registers.rows, spec.turn.size), "float32")
        self.columns = T.alloc_buffer((*heads, blocks, spec.turn.size, LANES), "float32")
        many = let(count >= max(FEW_ROWS, spec.group + 1))  # a single position is never many
        with T.parallel(0, self.batch * spec.kv_heads) as index:
            self._prepare(_head(index, spec.kv_heads), many)
        with T.If(many):
            with T.Then():
                self._many(tiles, registers)
            with T.Else():
                self._few(registers)

    def _many(self, tiles: Expr, registers: Registers) -> None:
        with T.parallel(0, self.batch * self.spec.kv_heads * tiles) as index:
            head = _head(T.floordiv(index, tiles), self.spec.kv_heads)
            first = let(T.floormod(index, tiles) * registers.rows)
            self._attend(head, first, registers.rows, self._position, self.columns)

    def _few(self, registers: Registers) -> None:
        """A tile holds queries of one position, so that none of its rows is idle."""
        group = self.spec.group
        with T.parallel(0, self.batch * self.spec.kv_heads * self.rows) as index:
            head = _head(T.floordiv(index, self.rows), self.spec.kv_heads)
            position = let(T.floormod(index, self.rows))
            for start in range(0, group, registers.rows):
                rows = min(registers.rows, group - start)
                self._attend(head, let(position * group + start), rows, lambda _: position, None)

    def _bounds(self, batch: Expr) -> tuple[Expr, Expr]:
        """Rows of the past that are kept, and keys after the step; within the memory, whatever the inputs say."""
        if self.spec.cache == "none":
            return T.int32(0), self.length
        total = let(T.max(T.min(self.last[batch], self.length - 1), T.int32(0)) + 1)
        kept = T.Select(self.total[0] == self.rows, T.int32(0), total - self.rows)
        return let(T.max(T.min(T.min(kept, self.length - self.rows), self.room), T.int32(0))), total

    def _prepare(self, head: list[Expr], many: Expr) -> None:
        """Turn and scale queries; append keys and values; transpose keys."""
        spec, size = self.spec, self.spec.turn.size
        past, total = self._bounds(head[0])
        new = self.length if spec.cache == "none" else let(T.min(self.rows, self.length))
        for store_, (source, start), turn in (
            (self.keys, self.k, spec.turn),
            (self.values, self.v, Turn(size, 0)),
        ):
            store_.begin(head, past, past + new, self.length)
            with T.serial(0, new) as row:
                place = [head[0], row, head[1] * size + start]
                target = let(past + row)
                put = partial(store_.write, head, target)
                turn.emit(source, place, self.tables, self._table_row(target), put)
        source, start = self.q
        with T.serial(0, self.rows) as row, T.serial(0, spec.group) as member:
            place = [head[0], row, (head[1] * spec.group + member) * size + start]
            target = let(row * spec.group + member)
            put = partial(self._put_query, head, target)
            spec.turn.emit(source, place, self.tables, self._table_row(past + row), put)
        with T.If(many), T.Then():
            self.keys.transpose(head, total, self.columns)

    def _table_row(self, position: Expr) -> Expr:
        """Within the tables."""
        return let(T.min(position, self.tables[0].shape[0] - 1)) if self.tables else position

    def _put_query(self, head: list[Expr], row: Expr, first: int, value: Expr, valid: int) -> None:
        """Keys that are codes are multiplied by their scale on this side."""
        value = value * splat(T.float32(self.spec.scale or 1.0 / math.sqrt(self.spec.turn.size)))
        if self.keys.scale is not None:
            value = value * load_part(self.keys.scale, [head[1], T.int32(first)], valid)
        store_part(self.queries, [*head, row, T.int32(first)], value, valid)

    def _attend(
        self,
        head: list[Expr],
        first: Expr,
        rows: int,
        position: Callable[[Expr], Expr],
        columns: Buffer | None,
    ) -> None:
        past, total = self._bounds(head[0])
        scores = T.alloc_buffer((rows, self.scores_width), "float32")
        sums = T.alloc_buffer((rows,), "float32")

        def limits(row: Expr) -> tuple[Expr, Expr]:
            last = opaque(past + position(row) + 1)
            low = T.max(last - self.spec.window, T.int32(0)) if self.spec.window else T.int32(0)
            return low, T.min(last, total) if self.spec.causal else total

        tile = Tile(
            head, first, rows, self.queries, scores, sums, limits, REGISTERS[self.spec.variant].vectors
        )
        if columns is None:
            tile.score_rows(self.keys, total)
        else:
            tile.score_columns(columns, self.spec.turn.size)
        changed = self.mask is not None or self.spec.softcap
        tile.softmax(partial(self._open_row, head) if changed else None)
        tile.weigh(self.values, lambda i, *of: self._put_result(head, let(first + i), *of))

    def _position(self, row: Expr) -> Expr:
        return let(T.floordiv(T.min(row, self.count - 1), self.spec.group))

    def _open_row(self, head: list[Expr], row: Expr) -> ChangeScores:
        if self.mask is None:
            return partial(self._change, [])
        query_head = head[1] * self.spec.group + T.floormod(row, self.spec.group)
        indices = zip((head[0], query_head, self._position(row)), self.mask_sizes, strict=True)
        return partial(self._change, [let(T.min(index, size - 1)) for index, size in indices])

    def _change(self, place: list[Expr], value: Expr, key: Expr, *, whole: bool) -> Expr:
        """Soft cap, then mask."""
        if self.spec.softcap:
            value = let(soft_cap(value, self.spec.softcap))
        if self.mask is None:
            return value
        if whole:
            return value + load(self.mask, [*place, key])
        added = T.alloc_buffer((LANES,), "float32")
        with T.serial(0, LANES) as lane:
            T.buffer_store(added, self.mask[(*place, T.min(key + lane, self.length - 1))], [lane])
        return value + load(added, [0])

    def _put_result(self, head: list[Expr], row: Expr, first: int, value: Expr, valid: int) -> None:
        spec = self.spec
        if self.values.scale is not None:
            value = value * load_part(self.values.scale, [head[1], T.int32(first)], valid)
        column = (head[1] * spec.group + T.floormod(row, spec.group)) * spec.turn.size + first
        with T.If(row < self.count), T.Then():
            store_part(self.result, [head[0], T.floordiv(row, spec.group), column], value, valid)


def _head(index: Expr, kv_heads: int) -> list[Expr]:
    return [let(T.floordiv(index, kv_heads)), let(T.floormod(index, kv_heads))]
