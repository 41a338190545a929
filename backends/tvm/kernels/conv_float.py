"""float32 convolution of images in NHWC: the loops of the int8 one over multiply-adds of one channel by 16 filters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.kernels.conv_epilogue import (
    PLAIN_SUMS,
    ConvEpilogue,
    ConvWriter,
    Floats,
    Numbers,
    pack_blocks,
)
from qcompiler.backends.tvm.kernels.conv_loops import Arithmetic, ConvLoops
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.conv_tiling import ConvTile, blocks_of, choose_tile
from qcompiler.backends.tvm.kernels.conv_window import rows_of
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    PrimFunc,
    Register,
    T,
    build,
    parameter,
    rows_parameter,
    splat,
)


@dataclass(frozen=True)
class ConvFloat:
    """One kernel.

    Attributes:
        shape: all sizes but the batch.
        epilogue: what is done to the sums.
        tile: None for the one with the fewest estimated cycles.

    Parameters of the PrimFunc, in this order: ``x`` float32 ``[N, H, W, C]``; ``weight`` float32 ``[blocks, K, 16]``;
    those of the epilogue. The constants are what :func:`pack` gives, in this order.
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
        """Products for each filter."""
        return self.shape.kernel[0] * self.shape.kernel[1] * self.shape.depth


def pack(spec: ConvFloat, weight: Floats, numbers: Numbers) -> list[npt.NDArray[Any]]:
    """The constants of a kernel, from ``weight`` to ``limits``.

    Args:
        weight: float32 ``[F, C / groups, kernel height, kernel width]``, as ONNX has it.
        numbers: ``sum_scale`` is multiplied into the weight; 1 for none.
    """
    multiplier, offset, limits = numbers.pack(spec.epilogue, spec.shape.filters)
    scaled = (weight * multiplier.reshape(-1, 1, 1, 1)).astype(np.float32)
    groups = spec.shape.groups
    return [pack_weight(scaled, groups), pack_blocks(offset, groups), limits]


def pack_weight(weight: Floats, groups: int) -> Floats:
    """``[F, C, i, j]`` to ``[groups * blocks, i * j * C, 16]``."""
    filters, depth, rows, columns = weight.shape
    each = filters // groups
    padded = np.pad(weight.reshape(groups, each, -1), ((0, 0), (0, -each % LANES), (0, 0)))
    split = padded.reshape(-1, LANES, depth, rows * columns)
    return np.ascontiguousarray(split.transpose(0, 3, 2, 1)).reshape(len(split), -1, LANES)


def conv_float(spec: ConvFloat, name: str = "conv_float") -> PrimFunc:
    """The kernel."""
    return build(name, lambda: _Conv(spec).body())


class _Conv:
    """Parameters, in order, and the statements over them."""

    def __init__(self, spec: ConvFloat) -> None:
        self.spec, shape = spec, spec.shape
        self.images = rows_parameter()
        self.x = parameter("x", (self.images, shape.height, shape.width, shape.channels), "float32")
        self.weight = parameter("weight", (spec.blocks, spec.steps, LANES), "float32")
        self.writer = ConvWriter(spec.epilogue, self.images, shape, spec.blocks)

    def body(self) -> None:
        tile = self.spec.tile or choose_tile(self.spec.shape, self.spec.variant, codes=False)
        view = tile.view(self.spec.shape)
        self.writer.see_rows(view)
        x = rows_of(self.x, self.images * view.height, view.width * view.channels)
        loops = ConvLoops(view, tile, self.images, x, self.weight, _ARITHMETIC)
        loops.emit(lambda: T.float32(0.0), self.writer.write)


_ARITHMETIC = Arithmetic(
    depth=1,
    weights=LANES,
    register=lambda: Register("float32"),
    zero=T.float32(0.0),
    pixel=splat,
    add=lambda sums, pixel, weight: sums + pixel * weight,
    total=lambda sums: sums,
)
