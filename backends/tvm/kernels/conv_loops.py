"""The loops of a convolution, whatever is multiplied: over bands, tiles, and what one tile sums up."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.conv_tiling import Band, ConvTile, Place, blocks_of, each_band, each_tile
from qcompiler.backends.tvm.kernels.conv_window import Window, open_window, steps_of
from qcompiler.backends.tvm.kernels.vectors import LANES, Buffer, Expr, Register, T, let, load

Sums = list[list[Register]]
"""Of a tile, by pixel and block."""

Finish = Callable[[Expr, Expr, Expr, Expr, int], None]
"""Called with a row of the result, a value within it, the block, 16 sums, and how many of them exist."""


@dataclass(frozen=True)
class Arithmetic:
    """How one step of the sums is computed.

    Attributes:
        depth: channels of a pixel that a step takes.
        weights: numbers that it takes for 16 filters.
        register: makes the sums of 16 filters.
        zero: what they begin with.
        pixel: from ``depth`` channels to a vector of them for every filter.
        add: from sums, pixel and weights to sums.
        total: from a register to 16 sums.
    """

    depth: int
    weights: int
    register: Callable[[], Register]
    zero: Expr
    pixel: Callable[[Expr], Expr]
    add: Callable[[Expr, Expr, Expr], Expr]
    total: Callable[[Expr], Expr]


@dataclass(frozen=True)
class ConvLoops:
    """What is convolved.

    Attributes:
        shape: as it is computed.
        images: how many.
        x: rows of all images.
        weight: ``[blocks, steps, weights]``; steps along filter rows, columns, channels.
    """

    shape: ConvShape
    tile: ConvTile
    images: Expr
    x: Buffer
    weight: Buffer
    arithmetic: Arithmetic

    def emit(self, fill: Callable[[], Expr], finish: Finish) -> None:
        """Emit everything; ``fill`` makes the value of padding."""
        each_band(self.shape, self.tile, self.images, lambda band: self._band(band, let(fill()), finish))

    def _band(self, band: Band, fill: Expr, finish: Finish) -> None:
        window = open_window(self.shape, self.tile, self.x, band, fill, self.arithmetic.depth)
        each_tile(self.shape, self.tile, band, lambda place: self._tile(band, window, place, finish))

    def _tile(self, band: Band, window: Window, place: Place, finish: Finish) -> None:
        shape = self.shape
        block = let(place.group * blocks_of(shape) + place.block)
        sums = [[self.arithmetic.register() for _ in place.valid] for _ in range(place.pixels)]
        for register in itertools.chain(*sums):
            register.clear(self.arithmetic.zero)
        self._sum_up(window, place, block, sums)
        row = band.image * shape.out_height + band.row + place.row
        first = place.group * (shape.filters // shape.groups) + place.block * LANES
        for pixel, registers in enumerate(sums):
            for b, register in enumerate(registers):
                at = (place.column + pixel) * shape.filters + first + b * LANES
                finish(row, at, block + b, self.arithmetic.total(register.value), place.valid[b])

    def _sum_up(self, window: Window, place: Place, block: Expr, sums: Sums) -> None:
        shape = self.shape
        rows, columns = shape.kernel
        run = steps_of(shape, self.arithmetic.depth) // self.arithmetic.depth
        if shape.dilations[1] == 1 and shape.groups == 1:
            columns, run = 1, columns * run
        with T.serial(0, rows) as i, T.serial(0, columns) as j:
            row = let(window.first + place.row * shape.strides[0] + i * shape.dilations[0])
            column = place.column * shape.strides[1] + j * shape.dilations[1]
            first = let(column * window.pixel + place.group * window.group)
            with T.serial(0, run) as step:
                self._add_step(window, row, first, step, block, (i * columns + j) * run + step, sums)

    def _add_step(
        self, window: Window, row: Expr, first: Expr, step: Expr, block: Expr, k: Expr, sums: Sums
    ) -> None:
        made = self.arithmetic
        weights = [let(load(self.weight, [block + b, k, 0], made.weights)) for b in range(len(sums[0]))]
        for p, registers in enumerate(sums):
            at = first + (p * self.shape.strides[1] * window.pixel + step * made.depth)
            pixel = let(made.pixel(load(window.source, [row, at], made.depth)))
            for weight, register in zip(weights, registers, strict=True):
                register.set(made.add(register.value, pixel, weight))
