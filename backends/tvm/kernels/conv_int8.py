"""uint8 x int8 convolution of images in NHWC, with everything that follows it up to the next layer's codes.

    y[n, h, w, f] = epilogue(sum_(i, j, c) (x[n, h*s + i*d, w*s + j*d, c] - zero) * weight[f, c, i, j])

The sums begin at ``-zero * sum(weight)`` and padding is the code ``zero``, so nothing is taken off afterwards.  Pixels
are broadcast four channels at a time against 16 filters (``vpdpbusd``); a 1 x 1 convolution is a matrix product that
sees the pixels in rows of whatever length fills its tiles.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.conv_epilogue import (
    PLAIN_SUMS,
    ConvEpilogue,
    ConvWriter,
    Numbers,
    pack_blocks,
)
from qcompiler.backends.tvm.kernels.conv_loops import Arithmetic, ConvLoops
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.conv_tiling import ConvTile, blocks_of, choose_tile
from qcompiler.backends.tvm.kernels.conv_window import rows_of, steps_of
from qcompiler.backends.tvm.kernels.dot_product import (
    DEPTH,
    STEP,
    accumulator_lanes,
    dot_product,
    four_everywhere,
    total,
)
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Expr,
    PrimFunc,
    Register,
    T,
    build,
    cast,
    load,
    parameter,
    rows_parameter,
)


@dataclass(frozen=True)
class ConvInt8:
    """One kernel.

    Attributes:
        shape: all sizes but the batch.
        epilogue: what is done to the sums.
        tile: None for the one with the fewest estimated cycles.

    Parameters of the PrimFunc, in this order: ``x`` uint8 ``[N, H, W, C]``; ``x_zero`` int32 ``[1]``; ``weight`` int8
    ``[blocks, K/4, 64]``; ``start`` int32 ``[blocks, 16]``; those of the epilogue. ``blocks`` is ``groups`` times the
    blocks of 16 filters of one group. The constants are what :func:`pack` gives, in this order.
    """

    shape: ConvShape
    variant: Variant
    epilogue: ConvEpilogue = PLAIN_SUMS
    tile: ConvTile | None = None

    @property
    def blocks(self) -> int:
        return self.shape.groups * blocks_of(self.shape)

    @property
    def steps(self) -> int:
        """Of four products, for each filter."""
        return self.shape.kernel[0] * self.shape.kernel[1] * steps_of(self.shape, DEPTH) // DEPTH


def pack(
    spec: ConvInt8, weight: npt.NDArray[np.int8], x_zero: int, numbers: Numbers
) -> list[npt.NDArray[Any]]:
    """The constants of a kernel, from ``x_zero`` to ``limits``.

    Args:
        weight: int8 ``[F, C / groups, kernel height, kernel width]``, as ONNX has it.
        x_zero: zero point of ``x``.
        numbers: ``sum_scale`` is the scale of ``x`` times those of the weight.
    """
    groups, filters = spec.shape.groups, spec.shape.filters
    sums = weight.reshape(filters, -1).sum(1, dtype=np.int32)
    start = pack_blocks((-x_zero * sums).astype(np.float64), groups)
    multiplier, offset, limits = numbers.pack(spec.epilogue, filters)
    return [
        np.array([x_zero], np.int32),
        pack_weight(weight, groups),
        start.astype(np.int32),
        pack_blocks(multiplier, groups),
        pack_blocks(offset, groups),
        limits,
    ]


def pack_weight(weight: npt.NDArray[np.int8], groups: int) -> npt.NDArray[np.int8]:
    """``[F, C, i, j]`` to ``[groups * blocks, i * j * C/4, 64]``."""
    filters, depth, rows, columns = weight.shape
    each = filters // groups
    padded = np.pad(
        weight.reshape(groups, each, depth, rows, columns),
        ((0, 0), (0, -each % LANES), (0, -depth % DEPTH), (0, 0), (0, 0)),
    )
    split = padded.reshape(groups, -1, LANES, padded.shape[2] // DEPTH, DEPTH, rows, columns)
    ordered = split.transpose(0, 1, 5, 6, 3, 2, 4)
    return np.ascontiguousarray(ordered).reshape(groups * split.shape[1], -1, STEP)


def conv_int8(spec: ConvInt8, name: str = "conv_int8") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _Conv(spec).body())


class _Conv:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: ConvInt8) -> None:
        self.spec, shape = spec, spec.shape
        self.images = rows_parameter()
        self.x = parameter("x", (self.images, shape.height, shape.width, shape.channels), "uint8")
        self.zero = parameter("x_zero", (1,), "int32")
        self.weight = parameter("weight", (spec.blocks, spec.steps, STEP), "int8")
        self.start = parameter("start", (spec.blocks, LANES), "int32")
        epilogue = replace(spec.epilogue, integer_sums=True)
        self.writer = ConvWriter(epilogue, self.images, shape, spec.blocks)

    def body(self) -> None:
        tile = self.spec.tile or choose_tile(self.spec.shape, self.spec.variant, codes=True)
        view = tile.view(self.spec.shape)
        self.writer.see_rows(view)
        x = rows_of(self.x, self.images * view.height, view.width * view.channels)
        loops = ConvLoops(view, tile, self.images, x, self.weight, _arithmetic(self.spec.variant))
        loops.emit(lambda: T.cast(self.zero[0], "uint8"), self._finish)

    def _finish(self, row: Expr, place: Expr, block: Expr, sums: Expr, valid: int) -> None:
        exact = cast(sums + load(self.start, [block, 0]), "float32")
        self.writer.write(row, place, block, exact, valid)


def _arithmetic(variant: Variant) -> Arithmetic:
    lanes = accumulator_lanes(variant)
    return Arithmetic(
        depth=DEPTH,
        weights=STEP,
        register=lambda: Register("int32", lanes),
        zero=T.int32(0),
        pixel=four_everywhere,
        add=lambda sums, pixel, weight: dot_product(variant, sums, pixel, weight),
        total=lambda sums: total(variant, sums),
    )
