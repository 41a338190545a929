"""Products with entries of codebooks, by tables of the products of all entries with a row.

    table[g, e] = round(sum_j x[8 g + j] * book[e, j] / step),   y[n] = step * scale[n] * sum_g table[g, code[g, n]]

A table has up to 256 entries of 16 bits, so eight registers hold it and 32 channels look into it at once.  A step is
the longest part of the row times the longest entry / 32700: each table rounds, at most by half a step, which puts a
result's error some 80 dB below it.  For 2048 channels of 2048 that takes a quarter of the time that reading entries one
by one does, for one row as for many, because making tables is cheap beside looking into them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    Register,
    T,
    across,
    cast,
    intrinsic,
    let,
    load,
    load_part,
    part,
    prefetch,
    round_to_int,
    splat,
    store,
)

ENTRIES = 256
"""Of a table, at most."""

LOOK_UPS = 64
"""Channels whose codes lie side by side."""

_WORDS = 2 * LANES
"""16-bit numbers in a register."""

_LARGEST = 32700.0
"""Of a table's entries, with room for the rounding of their sums."""

_PAIRS = 16
"""Of tables that stay in the first-level cache while all channels look into them: 16 KB."""

_CHUNK = 512
"""Channels of a parallel task."""

_FEW_ROWS = 4
"""Fewer share their tables between threads; of more each thread has its own."""

Finish = Callable[[Expr, Expr, Expr, int], None]
"""Called with row, block, 16 sums, and how many of them exist."""


@dataclass(frozen=True)
class Shape:
    """What a product by tables consists of.

    Attributes:
        channels, depth: N and K.
        length: of entries.
        entries: of a book.
        books: that are added up.
    """

    channels: int
    depth: int
    length: int
    entries: int
    books: int

    @property
    def worth_it(self) -> bool:
        """Whether making tables costs less than they save."""
        return self.entries <= ENTRIES and self.channels >= 2 * ENTRIES

    @property
    def groups(self) -> int:
        """Of a book; even, and whole registers of the row."""
        whole = -(-self.depth // LANES) * LANES // self.length
        return whole + whole % 2

    @property
    def padded(self) -> int:
        """Depth of all groups."""
        return self.groups * self.length

    @property
    def tables(self) -> int:
        return self.books * self.groups

    @property
    def registers(self) -> int:
        """That a table fills: 2, 4 or 8."""
        return next(count for count in (2, 4, 8) if count * _WORDS >= self.entries)

    @property
    def columns(self) -> tuple[int, int, int]:
        """Shape of what tables are made of."""
        return self.books, self.length, self.registers * _WORDS

    @property
    def blocks(self) -> int:
        """Of 64 channels."""
        return -(-self.channels // LOOK_UPS)


def place_of(channel: Expr) -> Expr:
    """Where in 64 codes those of a channel stand: words of two tables are joined within parts of 16 bytes."""
    half, quarter, lane = channel // 32, channel // 4 % 8, channel % 4
    return half * 32 + quarter % 4 * 8 + quarter // 4 * 4 + lane


def pack_codes(shape: Shape, codes: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
    """``[books, G, N]`` to ``[N/64, books * G, 64]``."""
    _, groups, channels = codes.shape
    missing = ((0, 0), (0, shape.groups - groups), (0, shape.blocks * LOOK_UPS - channels))
    split = np.pad(codes.astype(np.uint8), missing).reshape(shape.tables, shape.blocks, LOOK_UPS)
    packed = np.empty_like(split)
    packed[..., place_of(np.arange(LOOK_UPS))] = split
    return np.ascontiguousarray(packed.transpose(1, 0, 2))


def pack_columns(shape: Shape, book: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``[books, entries, length]`` to ``[books, length, E]``: the same place of all entries, side by side."""
    missing = shape.registers * _WORDS - shape.entries
    return np.ascontiguousarray(np.pad(book.transpose(0, 2, 1), ((0, 0), (0, 0), (0, missing))), np.float32)


class ByTables:
    """The statements.

    Args:
        x: float32 ``[M, K]``.
        weight: uint8, as :func:`pack_codes` gives.
        columns: float32, as :func:`pack_columns` gives.
        finish: what is done to sums.
    """

    def __init__(
        self, shape: Shape, x: Buffer, weight: Buffer, columns: Buffer, rows: Expr, finish: Finish
    ) -> None:
        self._shape, self._x, self._weight, self._columns = shape, x, weight, columns
        self._rows, self._finish = rows, finish

    def emit(self) -> None:
        """Few rows one after another, by all threads together; many by a thread each."""
        self._longest = self._longest_entry()
        with T.If(self._rows < _FEW_ROWS):
            with T.Then(), T.serial(0, self._rows) as row:
                self._row(row, T.parallel)
            with T.Else(), T.parallel(0, self._rows) as row:
                self._row(row, T.serial)

    def _longest_entry(self) -> Expr:
        """The largest sum of squares of an entry of any book."""
        shape, most = self._shape, Register("float32")
        most.clear(T.float32(0.0))
        with T.serial(0, shape.books) as book, T.serial(0, shape.registers * 2) as vector:
            squares = splat(T.float32(0.0))
            for j in range(shape.length):
                value = let(load(self._columns, [book, j, vector * LANES]))
                squares = squares + value * value
            most.set(T.max(most.value, squares))
        return across(most.value, T.max)

    def _row(self, row: Expr, loop: Callable[[Expr, Expr], Expr]) -> None:
        shape = self._shape
        given = T.alloc_buffer((shape.padded,), "float32")
        tables = T.alloc_buffer((shape.tables, shape.registers * _WORDS), "int16")
        step = self._load_row(row, given)
        inverse = let(splat(T.float32(1.0) / step))
        with loop(0, shape.groups) as group:
            self._make_tables(given, tables, group, inverse)
        chunk = _CHUNK // LOOK_UPS
        with loop(0, -(-shape.blocks // chunk)) as index:
            self._channels(row, tables, step, let(index * chunk), chunk)

    def _load_row(self, row: Expr, given: Buffer) -> Expr:
        """Copy a row, padded with zeros; the step of its tables."""
        shape, most = self._shape, Register("float32")
        most.clear(T.float32(0.0))

        def take(first: Expr, valid: int) -> None:
            value = load_part(self._x, [row, first], valid) if valid else splat(T.float32(0.0))
            store(given, [first], value)
            squares, reach = value * value, 1
            while reach < shape.length:
                whole = let(squares)
                squares = whole + T.Shuffle([whole], [lane ^ reach for lane in range(LANES)])
                reach *= 2
            most.set(T.max(most.value, squares))

        whole, rest = divmod(shape.depth, LANES)
        if whole:
            with T.serial(0, whole) as index:
                take(index * LANES, LANES)
        for first in range(whole * LANES, shape.padded, LANES):
            take(T.int32(first), rest if first < shape.depth else 0)
        longest = T.sqrt(across(most.value, T.max) * self._longest)
        return let(T.max(longest, T.float32(1e-30)) * T.float32(1.0 / _LARGEST))

    def _make_tables(self, given: Buffer, tables: Buffer, group: Expr, inverse: Expr) -> None:
        shape = self._shape
        parts = [let(splat(given[group * shape.length + j]) * inverse) for j in range(shape.length)]
        for book in range(shape.books):
            with T.serial(0, shape.registers * 2) as vector:
                sums = splat(T.float32(0.0))
                for j, value in enumerate(parts):
                    sums = sums + value * load(self._columns, [book, j, vector * LANES])
                place = [group + book * shape.groups, vector * LANES]
                store(tables, place, cast(round_to_int(sums), "int16"))

    def _channels(self, row: Expr, tables: Buffer, step: Expr, first: Expr, count: int) -> None:
        """Look up a chunk of channels and finish them."""
        shape = self._shape
        sums = T.alloc_buffer((count, LOOK_UPS // LANES, LANES), "int32")
        blocks = let(T.min(T.int32(count), shape.blocks - first))
        quarters = range(LOOK_UPS // LANES)
        with T.serial(0, blocks) as block:
            for i in quarters:
                store(sums, [block, i, 0], splat(T.int32(0)))
        pairs = shape.tables // 2
        with T.serial(0, -(-pairs // _PAIRS)) as span, T.serial(0, blocks) as block:
            found = [Register("int32") for _ in quarters]
            for i, register in enumerate(found):
                register.set(load(sums, [block, i, 0]))
            with T.serial(0, T.min(T.int32(_PAIRS), pairs - span * _PAIRS)) as pair:
                self._look_up(tables, first + block, let((span * _PAIRS + pair) * 2), found)
            for i, register in enumerate(found):
                store(sums, [block, i, 0], register.value)
        with T.serial(0, blocks) as block:
            for i in quarters:
                value = cast(load(sums, [block, i, 0]), "float32") * splat(step)
                self._finish_block(row, let((first + block) * (LOOK_UPS // LANES) + i), value)

    def _finish_block(self, row: Expr, block: Expr, value: Expr) -> None:
        """16 channels: all, those that exist, or none."""
        whole, rest = divmod(self._shape.channels, LANES)
        with T.If(block < whole), T.Then():
            self._finish(row, block, value, LANES)
        if rest:
            with T.If(block == whole), T.Then():
                self._finish(row, block, value, rest)

    def _look_up(self, tables: Buffer, block: Expr, table: Expr, sums: list[Register]) -> None:
        """Add what 64 channels find in two tables."""
        pair = [self._entries(tables, block, table + i) for i in range(2)]
        ones = splat(T.int16(1), _WORDS)
        for half in range(2):
            low, high = (let(side[half]) for side in pair)
            for i in range(2):
                places = [8 * quarter + 4 * i + j for quarter in range(4) for j in range(4)]
                words = T.Shuffle([low, high], [place + _WORDS * k for place in places for k in range(2)])
                register = sums[2 * half + i]
                both = intrinsic("llvm.x86.avx512.pmaddw.d.512", "int32x16", words, ones)
                register.set(register.value + both)

    def _entries(self, tables: Buffer, block: Expr, table: Expr) -> list[Expr]:
        """int16 x 32, twice: what 64 codes find."""
        prefetch(self._weight, [block + 1, table, 0])
        codes = let(load(self._weight, [block, table, 0], LOOK_UPS))
        parts = [let(load(tables, [table, index * _WORDS], _WORDS)) for index in range(self._shape.registers)]
        return [
            _chosen(parts, let(cast(part(codes, _WORDS * half, _WORDS), "int16", _WORDS)))
            for half in range(2)
        ]


def _chosen(parts: list[Expr], codes: Expr) -> Expr:
    """Entries of a table in several registers: every two by one instruction, the pair by the bits above 64."""
    name, kind = "llvm.x86.avx512.vpermi2var.hi.512", f"int16x{_WORDS}"
    found = [
        intrinsic(name, kind, low, codes, high) for low, high in zip(parts[::2], parts[1::2], strict=True)
    ]
    bit = 2 * _WORDS
    while len(found) > 1:
        bits = let(T.bitwise_and(codes, splat(T.int16(bit), _WORDS)))
        chosen = bits != splat(T.int16(0), _WORDS)
        found = [
            T.Select(chosen, second, first) for first, second in zip(found[::2], found[1::2], strict=True)
        ]
        bit *= 2
    return found[0]
