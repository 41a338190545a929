"""Product with weights that are stored as entries of codebooks of short vectors along K, added up, as in AQLM
(arXiv 2401.06118): 256 vectors of 8 are one bit a weight and a book.

    w[8 g + j, n] = scale[n] * sum_b book[b, code[b, g, n], j]

There are two ways.  An entry is read from the first-level cache where its weights are multiplied: exact, at one entry a
cycle, and once for all rows of a tile.  Or all entries are multiplied by the input first (codebook_tables.py): where
AVX-512 looks into 16-bit tables, books have at most 256 entries, and many channels share them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.codebook_loops import TOGETHER, add_up, side_by_side
from qcompiler.backends.tvm.kernels.codebook_tables import (
    LOOK_UPS,
    ByTables,
    Shape,
    pack_codes,
    pack_columns,
    place_of,
)
from qcompiler.backends.tvm.kernels.epilogue import PLAIN_RESULT, Epilogue, Writer, pack_channels
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    PrimFunc,
    T,
    build,
    joined,
    let,
    load,
    parameter,
    rows_parameter,
)
from qcompiler.errors import UnsupportedError

LENGTHS = (2, 4, 8, 16)
_ROWS = {Variant.PLAIN: 1, Variant.AVX2: 2, Variant.AVX_VNNI: 2, Variant.AVX512_VNNI: 4}


@dataclass(frozen=True)
class CodebookVectors:
    """One kernel.

    Attributes:
        channels: N.
        depth: K.
        length: of the vectors: 2, 4, 8 or 16.
        entries: of a book, at most 65536.
        books: that are added up.
        epilogue: what is done to the result.
        rows: of a tile; 0 for the variant's own.

    Parameters of the PrimFunc, in this order: ``x`` float32 ``[M, K]``; ``weight`` uint8 or uint16
    ``[N/4, K/16, 4, 16 / length * books]``, N rounded up to 16; ``book`` float32 ``[books * entries, length]``;
    ``scale`` float32 ``[N/16, 16]``, as :func:`pack` gives; those of the epilogue.  Where tables can be worth it
    (``shape.worth_it``) ``weight`` is ``[N/64, books * groups, 64]`` instead, and ``columns`` float32
    ``[books, length, E]`` follows the scale, for all variants.
    """

    channels: int
    depth: int
    length: int
    entries: int
    variant: Variant
    books: int = 1
    epilogue: Epilogue = PLAIN_RESULT
    rows: int = 0

    def __post_init__(self) -> None:
        if self.length not in LENGTHS or self.entries > 1 << 16:
            raise UnsupportedError(
                f"codebook of {self.entries} vectors of {self.length}: lengths are 2, 4, 8 or 16 and entries at most "
                "65536; compile for ort-cpu."
            )

    @property
    def shape(self) -> Shape:
        return Shape(self.channels, self.depth, self.length, self.entries, self.books)

    @property
    def groups(self) -> int:
        return -(-self.depth // LANES) * LANES // self.length

    @property
    def steps(self) -> int:
        """Of 16 weights."""
        return -(-self.depth // LANES)

    @property
    def codes(self) -> int:
        """Of a step, for all books."""
        return LANES // self.length * self.books

    @property
    def padded(self) -> int:
        """Channels, rounded up."""
        return -(-self.channels // LANES) * LANES

    @property
    def code_type(self) -> str:
        return "uint8" if self.entries <= 1 << 8 else "uint16"


def pack(
    spec: CodebookVectors,
    codes: npt.NDArray[np.integer],
    book: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
) -> list[npt.NDArray[np.generic]]:
    """``weight``, ``book``, ``scale``, ``columns`` from codes ``[books, G, N]``, ``[books, entries, length]``, ``[N]``.

    Columns only where tables can be worth it.
    """
    entries = np.ascontiguousarray(book.reshape(-1, spec.length), np.float32)
    if spec.shape.worth_it:
        weight, columns = pack_codes(spec.shape, codes), pack_columns(spec.shape, book)
        return [weight, entries, pack_channels(scale), columns]
    _, groups, channels = codes.shape
    ordered = codes.transpose(2, 1, 0).astype(spec.code_type)
    padded = np.pad(ordered, ((0, spec.padded - channels), (0, spec.groups - groups), (0, 0)))
    steps = padded.reshape(spec.padded, spec.steps, -1)
    return [
        side_by_side(steps),
        entries,
        pack_channels(scale),
    ]


def codebook_vectors(spec: CodebookVectors, name: str = "codebook_vectors") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _body(spec))


def _body(spec: CodebookVectors) -> None:
    rows = rows_parameter()
    x = parameter("x", (rows, spec.depth), "float32")
    shape = spec.shape
    if shape.worth_it:
        weight = parameter("weight", (shape.blocks, shape.tables, LOOK_UPS), "uint8")
    else:
        tiles = (spec.padded // TOGETHER, spec.steps, TOGETHER, spec.codes)
        weight = parameter("weight", tiles, spec.code_type)
    book = parameter("book", (spec.books * spec.entries, spec.length), "float32")
    scale = parameter("scale", (spec.padded // LANES, LANES), "float32")
    columns = parameter("columns", shape.columns, "float32") if shape.worth_it else None
    writer = Writer(spec.epilogue, rows, spec.channels)

    def finish(row: Expr, block: Expr, sums: Expr, valid: int) -> None:
        writer.write(row, block, sums * load(scale, [block, 0]), valid)

    if shape.worth_it and spec.variant is Variant.AVX512_VNNI:
        ByTables(shape, x, weight, columns, rows, finish).emit()
        return
    weights = _Weights(spec, weight, book)
    add_up(weights, x, rows, (spec.depth, spec.channels), spec.rows or _ROWS[spec.variant], finish)


class _Weights:
    """Codes, and the books."""

    depth = LANES

    def __init__(self, spec: CodebookVectors, weight: Buffer, book: Buffer) -> None:
        self._spec, self._weight, self._book = spec, weight, book

    def open_channel(self, channel: Expr) -> Expr:
        return channel

    def open_step(self, group: Expr, member: int, step: Expr) -> list[Expr]:
        spec, found = self._spec, []
        for i in range(spec.codes):
            if spec.shape.worth_it:
                code = self._side_by_side(group, member, step, i)
            else:
                code = self._weight[group, step, member, i]
            found.append(let(T.cast(code, "int32")))
        return found

    def _side_by_side(self, group: Expr, member: int, step: Expr, index: int) -> Expr:
        """A code where those of 64 channels lie together."""
        spec, groups = self._spec, LANES // self._spec.length
        part, book = divmod(index, spec.books)
        channel = T.floormod(group, LOOK_UPS // TOGETHER) * TOGETHER + member
        table = book * spec.shape.groups + step * groups + part
        return self._weight[T.floordiv(group, LOOK_UPS // TOGETHER), table, place_of(channel)]

    def values(self, kept: Expr, codes: list[Expr], part: int) -> Expr:
        del kept, part
        found = self._from_book(codes, 0)
        for book in range(1, self._spec.books):
            found = found + self._from_book(codes, book)
        return found

    def _from_book(self, codes: list[Expr], book: int) -> Expr:
        """float32 x 16: entries of one book, one behind another."""
        spec = self._spec
        pieces = [
            load(self._book, [code + book * spec.entries, 0], spec.length)
            for code in codes[book :: spec.books]
        ]
        return let(joined(pieces, LANES) if len(pieces) > 1 else pieces[0])
