"""What products, convolutions and look-ups compute, as definitions that schedules make kernels of.

Each is a function of placeholders to tensors of ``te``; ``m`` rows are symbolic where they are not known.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Expr = Any
Tensor = Any
Dot = Callable[[Expr, Expr], Expr]

WORD_BITS = 32


@dataclass(frozen=True)
class LowBit:
    """Weights of few bits, ``[N, K]``: codes side by side in words, little end first.

        w[n, k] = scale[n, g] * level(code[n, k]) - minimum[n, g],    g = k // group

    Attributes:
        bits: 2, 4 or 8.
        group: weights of a row that share a scale.
        offset: level of code 0 is its negative; without meaning beside a table.
        table: how many levels a table has; 0 where a code is its level.
        minimum: whether there is one.
    """

    channels: int
    depth: int
    bits: int
    group: int
    offset: int = 0
    table: int = 0
    minimum: bool = False

    @property
    def words(self) -> int:
        """Of a row."""
        return -(-self.depth * self.bits // WORD_BITS)

    @property
    def groups(self) -> int:
        return -(-self.depth // self.group)

    def placeholders(self) -> list[Tensor]:
        """Words, scale, minimum, table: those there are."""
        from tvm import te

        found = [
            te.placeholder((self.channels, self.words), "uint32", name="words"),
            te.placeholder((self.channels, self.groups), "float32", name="scale"),
        ]
        if self.minimum:
            found.append(te.placeholder((self.channels, self.groups), "float32", name="minimum"))
        if self.table:
            found.append(te.placeholder((self.table,), "float32", name="table"))
        return found

    def weight(self, tensors: list[Tensor], n: Expr, k: Expr) -> Expr:
        """Of row ``n`` and column ``k``, unpacked in registers."""
        from tvm import tirx

        words, scale, *rest = tensors
        per = WORD_BITS // self.bits
        place = tirx.Cast("uint32", (k % per) * self.bits)
        code = tirx.shift_right(words[n, k // per], place) & tirx.const((1 << self.bits) - 1, "uint32")
        if self.table:
            level = rest[-1][tirx.Cast("int32", code)]
        else:
            level = tirx.Cast("float32", tirx.Cast("int32", code) - tirx.const(self.offset, "int32"))
        value = level * scale[n, k // self.group]
        return value - rest[0][n, k // self.group] if self.minimum else value


@dataclass(frozen=True)
class LowBitProduct:
    """``x [M, K]`` times weights, plus a bias ``[N]``: x, words, scale, [minimum], [table], [bias], y."""

    weight: LowBit
    bias: bool = False

    def __call__(self, rows: Expr) -> list[Tensor]:
        from tvm import te

        weight = self.weight
        x = te.placeholder((rows, weight.depth), "float32", name="x")
        stored = weight.placeholders()
        matrix = te.compute(
            (weight.channels, weight.depth), lambda n, k: weight.weight(stored, n, k), name="dequantize"
        )
        return [x, *stored, *product(x, matrix, weight.channels, weight.depth, bias=self.bias)]


@dataclass(frozen=True)
class FloatProduct:
    """``x [M, K]`` times a matrix ``[N, K]``, plus a bias ``[N]``: x, matrix, [bias], y."""

    channels: int
    depth: int
    bias: bool = False

    def __call__(self, rows: Expr) -> list[Tensor]:
        from tvm import te

        x = te.placeholder((rows, self.depth), "float32", name="x")
        matrix = te.placeholder((self.channels, self.depth), "float32", name="matrix")
        return [x, matrix, *product(x, matrix, self.channels, self.depth, bias=self.bias)]


def product(x: Tensor, matrix: Tensor, channels: int, depth: int, *, bias: bool) -> list[Tensor]:
    """The bias where there is one, and the result."""
    from tvm import te

    k = te.reduce_axis((0, depth), name="k")
    y = te.compute((x.shape[0], channels), lambda i, n: te.sum(x[i, k] * matrix[n, k], axis=k), name="matmul")
    if not bias:
        return [y]
    addend = te.placeholder((channels,), "float32", name="bias")
    return [addend, te.compute(y.shape, lambda i, n: y[i, n] + addend[n], name="biased")]


@dataclass(frozen=True)
class Packing:
    """Four uint8 codes a word, each minus 128 as int8: codes ``[M, K]``, words int32 ``[M, ceil(K / 4)]``."""

    depth: int

    def __call__(self, rows: Expr) -> list[Tensor]:
        from tvm import te, tirx

        codes = te.placeholder((rows, self.depth), "uint8", name="codes")

        def byte(i: Expr, k: Expr, place: int) -> Expr:
            found = tirx.Cast("int32", codes[i, k * 4 + place]) ^ tirx.const(0x80, "int32")
            if self.depth % 4:
                found = tirx.if_then_else(k * 4 + place < self.depth, found, tirx.const(0, "int32"))
            return tirx.shift_left(found, tirx.const(8 * place, "int32"))

        def word(i: Expr, k: Expr) -> Expr:
            return byte(i, k, 0) | byte(i, k, 1) | byte(i, k, 2) | byte(i, k, 3)

        return [codes, te.compute((rows, -(-self.depth // 4)), word, name="pack")]


@dataclass(frozen=True)
class Int8Product:
    """Codes times int8 weights, four at a time; scales, zero point and bias behind it.

    words int32 ``[M, K/4]``, weight int32 ``[N, K/4]``, scale ``[N]``, total int32 ``[N]`` (sums of weights),
    x_scale float32 ``[1]``, x_zero int32 ``[1]`` (minus 128), [bias ``[N]``], y float32 ``[M, N]``.
    """

    channels: int
    words: int
    bias: bool
    dot: Dot

    def __call__(self, rows: Expr) -> list[Tensor]:
        from tvm import te, tirx

        x = te.placeholder((rows, self.words), "int32", name="x")
        matrix = te.placeholder((self.channels, self.words), "int32", name="matrix")
        scale = te.placeholder((self.channels,), "float32", name="scale")
        total = te.placeholder((self.channels,), "int32", name="total")
        x_scale = te.placeholder((1,), "float32", name="x_scale")
        x_zero = te.placeholder((1,), "int32", name="x_zero")
        bias = te.placeholder((self.channels,), "float32", name="bias")
        k = te.reduce_axis((0, self.words), name="k")
        zero = te.const(0, "int64")
        sums = te.compute(
            (rows, self.channels), lambda i, n: te.sum(self.dot(x(i, k), matrix(n, k)), axis=k), name="matmul"
        )

        def value(i: Expr, n: Expr) -> Expr:
            whole = tirx.Cast("float32", sums[i, n] - x_zero[zero] * total[n])
            found = whole * (x_scale[zero] * scale[n])
            return found + bias[n] if self.bias else found

        y = te.compute((rows, self.channels), value, name="scaled")
        return [x, matrix, scale, total, x_scale, x_zero, *([bias] if self.bias else []), y]


@dataclass(frozen=True)
class Rows:
    """Rows of a table of few bits: ids int64 ``[M]``, words, scale, [minimum], [table], y ``[M, columns]``."""

    table: LowBit

    def __call__(self, rows: Expr) -> list[Tensor]:
        from tvm import te, tirx

        ids = te.placeholder((rows,), "int64", name="ids")
        stored = self.table.placeholders()
        entries = tirx.const(self.table.channels, "int64")

        def row(i: Expr) -> Expr:
            found = ids[i] + tirx.Select(ids[i] < 0, entries, tirx.const(0, "int64"))
            return tirx.max(tirx.min(found, entries - 1), tirx.const(0, "int64"))

        y = te.compute(
            (rows, self.table.depth), lambda i, k: self.table.weight(stored, row(i), k), name="gather"
        )
        return [ids, *stored, y]


@dataclass(frozen=True)
class Int8Conv:
    """A convolution of codes over two dimensions: codes uint8 ``[B, C, H, W]``, weight int8 ``[F, C/groups, h, w]``,
    scale ``[F]`` (of input times of weight), x_zero int32 ``[1]``, [bias ``[F]``], y float32 ``[B, F, h', w']``."""

    size: tuple[int, int, int]
    filters: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    pads: tuple[int, int, int, int]
    dilations: tuple[int, int]
    groups: int
    bias: bool

    @property
    def result(self) -> tuple[int, int]:
        """Height and width."""
        height, width = (
            (
                self.size[1 + i]
                + self.pads[i]
                + self.pads[2 + i]
                - (self.kernel[i] - 1) * self.dilations[i]
                - 1
            )
            // self.strides[i]
            + 1
            for i in range(2)
        )
        return height, width

    def __call__(self, batch: Expr) -> list[Tensor]:
        from tvm import te, tirx

        channels = self.size[0] // self.groups
        codes = te.placeholder((batch, *self.size), "uint8", name="codes")
        weight = te.placeholder((self.filters, channels, *self.kernel), "int8", name="weight")
        scale = te.placeholder((self.filters,), "float32", name="scale")
        x_zero = te.placeholder((1,), "int32", name="x_zero")
        bias = te.placeholder((self.filters,), "float32", name="bias")
        c, i, j = (te.reduce_axis((0, extent), name=name) for extent, name in
                   ((channels, "c"), (self.kernel[0], "i"), (self.kernel[1], "j")))  # fmt: skip
        zero = te.const(0, "int64")
        height, width = self.size[1:]

        def centred(b: Expr, channel: Expr, row: Expr, column: Expr) -> Expr:
            value = tirx.Cast("int32", codes[b, channel, row, column]) - x_zero[zero]
            if not any(self.pads):
                return value
            inside = tirx.all(row >= 0, row < height, column >= 0, column < width)
            return tirx.if_then_else(inside, value, tirx.const(0, "int32"))

        def term(b: Expr, f: Expr, y: Expr, x: Expr) -> Expr:
            row = y * self.strides[0] - self.pads[0] + i * self.dilations[0]
            column = x * self.strides[1] - self.pads[1] + j * self.dilations[1]
            channel = f // (self.filters // self.groups) * channels + c
            return centred(b, channel, row, column) * tirx.Cast("int32", weight[f, c, i, j])

        sums = te.compute(
            (batch, self.filters, *self.result),
            lambda b, f, y, x: te.sum(term(b, f, y, x), axis=[c, i, j]), name="conv",
        )  # fmt: skip

        def value(b: Expr, f: Expr, y: Expr, x: Expr) -> Expr:
            found = tirx.Cast("float32", sums[b, f, y, x]) * scale[f]
            return found + bias[f] if self.bias else found

        result = te.compute(sums.shape, value, name="scaled")
        return [codes, weight, scale, x_zero, *([bias] if self.bias else []), result]
