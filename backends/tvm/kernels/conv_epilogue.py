"""What follows the sums of a convolution before they are written: scale, bias, clip, function, residual, codes.

    v = clip(function(sum * multiplier[n] + offset[n]), low, high), maybe rounded
    v = clip(v * a + residual * b + c, low_2, high_2)       where there is a residual, or a function before codes
    y = round(v)                                            where codes come out

Everything that is known before the call (scales, zero points, the bias) is folded into these numbers by
:class:`Numbers`, so a quantized layer with ReLU costs one multiplication and one clip.  ReLU is a clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.kernels.conv_window import rows_of
from qcompiler.backends.tvm.kernels.epilogue import pack_channels
from qcompiler.backends.tvm.kernels.functions import Function, apply
from qcompiler.backends.tvm.kernels.vectors import (
    LANES,
    Buffer,
    Expr,
    T,
    cast,
    let,
    load,
    load_part,
    parameter,
    round_to_int,
    splat,
    store_part,
)

Floats = npt.NDArray[np.float32]

Residual = Literal["none", "codes", "float"]

LIMITS = 8
"""Numbers of the second parameter: low, high, a, b, c, low_2, high_2, and one that is not used."""


@dataclass(frozen=True)
class ConvEpilogue:
    """Which of the steps a kernel has.

    Attributes:
        clip: the first clip; always there where the result is rounded.
        function: of every value; its result is written as it is, or goes through the second line.
        rounded: whether the value is rounded before the residual is added, as where a graph quantizes it there.
        residual: a tensor like the result that is added.
        codes_out: uint8 comes out, and otherwise float32.
        integer_sums: of codes, which a multiplier turns into values; set by the kernels.

    Parameters that it adds, in this order: ``multiplier`` (only of integer sums) and ``offset`` float32
    ``[blocks, 16]``; ``limits`` float32 ``[8]``; ``residual`` uint8 or float32 and ``y`` uint8 or float32, both
    ``[N, H, W, F]``.
    """

    clip: bool = False
    function: Function = Function.NONE
    rounded: bool = False
    residual: Residual = "none"
    codes_out: bool = False
    integer_sums: bool = False

    @property
    def has_second_line(self) -> bool:
        return self.residual != "none" or (self.codes_out and self.function is not Function.NONE)

    @property
    def clips_first(self) -> bool:
        return self.clip or self.rounded or (self.codes_out and not self.has_second_line)


PLAIN_SUMS = ConvEpilogue()
"""Float32, nothing but scale and bias."""


@dataclass(frozen=True)
class Codes:
    """How uint8 codes stand for values: ``(code - zero_point) * scale``."""

    scale: float
    zero_point: int


REAL = Codes(1.0, 0)
"""Values that stand for themselves."""


@dataclass(frozen=True)
class Numbers:
    """What the constants of an epilogue are made of.

    Attributes:
        sum_scale: value of one unit of the sums, a number for each channel or one for all; 1 for float convolutions.
        bias: for each channel, or None.
        clip: least and largest value after the function, before rounding and residual.
        rounded: codes that the value is rounded to before the residual is added.
        residual: codes of the residual; ``REAL`` where it is float.
        clip_after: least and largest value of the result.
        result: codes of the result; ``REAL`` where it is float.
    """

    sum_scale: Floats
    bias: Floats | None = None
    clip: tuple[float, float] = (-np.inf, np.inf)
    rounded: Codes | None = None
    residual: Codes = REAL
    clip_after: tuple[float, float] = (-np.inf, np.inf)
    result: Codes = REAL

    def pack(self, epilogue: ConvEpilogue, channels: int) -> tuple[Floats, Floats, Floats]:
        """``multiplier`` and ``offset`` ``[channels]``, and ``limits``."""
        first = self._first_codes(epilogue)
        scale = np.broadcast_to(np.asarray(self.sum_scale, np.float64), (channels,)) / first.scale
        bias = np.zeros(channels) if self.bias is None else np.asarray(self.bias, np.float64)
        low, high = _limits(self.clip, first, rounded=first is not REAL)
        low_2, high_2 = _limits(self.clip_after, self.result, rounded=epilogue.codes_out)
        if not epilogue.has_second_line and epilogue.codes_out:
            low, high = max(low, low_2), min(high, high_2)
        a, b = first.scale / self.result.scale, self.residual.scale / self.result.scale
        c = self.result.zero_point - a * first.zero_point - b * self.residual.zero_point
        limits = np.array([low, high, a, b, c, low_2, high_2, 0], np.float32)
        offset = bias / first.scale + first.zero_point
        return scale.astype(np.float32), offset.astype(np.float32), limits

    def _first_codes(self, epilogue: ConvEpilogue) -> Codes:
        """In which units the first line computes."""
        if epilogue.rounded and self.rounded is not None:
            return self.rounded
        if epilogue.codes_out and not epilogue.has_second_line:
            return self.result
        return REAL


def _limits(clip: tuple[float, float], codes: Codes, *, rounded: bool) -> tuple[float, float]:
    """A clip in the units of codes; what is rounded stays a uint8."""
    low, high = (bound / codes.scale + codes.zero_point for bound in clip)
    return (max(low, 0.0), min(high, 255.0)) if rounded else (low, high)


class ConvWriter:
    """The parameters of an epilogue, and the statements that use them."""

    def __init__(self, epilogue: ConvEpilogue, images: Expr, shape: ConvShape, blocks: int) -> None:
        self._epilogue, self._images = epilogue, images
        result = (images, shape.out_height, shape.out_width, shape.filters)
        integer = epilogue.integer_sums
        self._multiplier: Buffer = parameter("multiplier", (blocks, LANES), "float32") if integer else None
        self._offset = parameter("offset", (blocks, LANES), "float32")
        self._limits = parameter("limits", (LIMITS,), "float32")
        self._residual: Buffer = None
        if epilogue.residual != "none":
            kind = "uint8" if epilogue.residual == "codes" else "float32"
            self._residual = parameter("residual", result, kind)
        self._result = parameter("y", result, "uint8" if epilogue.codes_out else "float32")

    def see_rows(self, view: ConvShape) -> None:
        """See result and residual in the rows that are computed; to be called once, after the last parameter."""
        rows, length = self._images * view.out_height, view.out_width * view.filters
        self._result = rows_of(self._result, rows, length)
        if self._residual is not None:
            self._residual = rows_of(self._residual, rows, length)

    def write(self, row: Expr, place: Expr, block: Expr, sums: Expr, valid: int) -> None:
        """Finish and store 16 channels of a pixel.

        Args:
            row: of all rows of all images.
            place: value within the row.
            block: of the packed constants.
            sums: float32 x 16, exact integers where they were.
            valid: channels that exist.
        """
        steps = self._epilogue
        value = sums + load(self._offset, [block, 0])
        if self._multiplier is not None:
            value = sums * load(self._multiplier, [block, 0]) + load(self._offset, [block, 0])
        value = apply(steps.function, value)
        if steps.clips_first:
            value = self._clip(value, 0)
        if steps.rounded:
            value = cast(round_to_int(let(value)), "float32")
        if steps.has_second_line:
            value = self._second_line(value, row, place, valid)
        if steps.codes_out:
            value = cast(round_to_int(let(value)), "uint8")
        store_part(self._result, [row, place], let(value), valid)

    def _second_line(self, value: Expr, row: Expr, place: Expr, valid: int) -> Expr:
        value = value * splat(self._limits[2]) + splat(self._limits[4])
        if self._residual is not None:
            other = load_part(self._residual, [row, place], valid)
            value = value + cast(other, "float32") * splat(self._limits[3])
        return self._clip(value, 5)

    def _clip(self, value: Expr, first: int) -> Expr:
        low, high = splat(self._limits[first]), splat(self._limits[first + 1])
        return T.min(T.max(value, low), high)


def pack_blocks(values: Floats, groups: int) -> Floats:
    """``[channels]`` to ``[groups * blocks, 16]``: every group begins a block; missing channels 0."""
    return np.concatenate([pack_channels(part) for part in values.reshape(groups, -1)])
