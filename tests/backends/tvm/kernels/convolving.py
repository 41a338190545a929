"""Convolutions for tests: shapes that are awkward in one way each, and a slow, obvious reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.kernels.conv_shape import ConvShape

SHAPES = {
    "pointwise": ConvShape(5, 6, 20, 41),
    "padded": ConvShape(7, 9, 8, 19, (3, 3), pads=(1, 1, 1, 1)),
    "strided, uneven pads": ConvShape(10, 11, 4, 16, (3, 2), (2, 3), (0, 1, 2, 0)),
    "dilated": ConvShape(9, 8, 8, 16, (3, 3), pads=(2, 2, 2, 2), dilations=(2, 2)),
    "three channels": ConvShape(8, 8, 3, 24, (3, 3), (2, 2), (1, 1, 1, 1)),
    "groups": ConvShape(6, 7, 12, 40, (3, 3), (1, 2), (1, 0, 1, 0), groups=2),
    "groups of whole steps": ConvShape(5, 5, 8, 32, (2, 2), groups=2),
    "all of the image": ConvShape(3, 3, 32, 10, (3, 3)),
}
IMAGES = 2


def convolve(x: npt.NDArray[Any], weight: npt.NDArray[Any], shape: ConvShape) -> npt.NDArray[np.float64]:
    """``[N, H, W, C]`` by ``[F, C / groups, i, j]``, one output pixel after another."""
    top, left, bottom, right = shape.pads
    padded = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    result = np.zeros((len(x), shape.out_height, shape.out_width, shape.filters))
    each = shape.filters // shape.groups
    for row, column in np.ndindex(shape.out_height, shape.out_width):
        place = [start * stride for start, stride in zip((row, column), shape.strides, strict=True)]
        taps = [
            slice(first, first + span, step)
            for first, span, step in zip(place, shape.span, shape.dilations, strict=True)
        ]
        seen = padded[:, taps[0], taps[1]]
        for group in range(shape.groups):
            channels = slice(group * shape.depth, (group + 1) * shape.depth)
            filters = slice(group * each, (group + 1) * each)
            result[:, row, column, filters] = np.einsum(
                "nijc,fcij->nf", seen[..., channels], weight[filters].astype(np.float64)
            )
    return result


def result_shape(shape: ConvShape, images: int = IMAGES) -> tuple[int, int, int, int]:
    return images, shape.out_height, shape.out_width, shape.filters
