"""Which statistics a pass can ask for.

Every request names a value of the graph.  Requests are hashable: two passes or nodes that ask the same
question get one answer.  All of them are reduced over every axis but the channel's and over all samples.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass


class Calibrator(enum.StrEnum):
    """How the clipping range of an activation is chosen from what was observed."""

    MINMAX = "minmax"
    MOVING_AVERAGE = "moving_average"
    PERCENTILE = "percentile"
    ENTROPY = "entropy"
    MSE = "mse"


@dataclass(frozen=True)
class Range:
    """Clipping range of a whole tensor: answered by ``(low, high)``, two floats.

    Attributes:
        value: name of the value.
        calibrator: ``moving_average`` averages the batches' ranges; ``percentile``, ``entropy`` (KL,
            as in TensorRT) and ``mse`` choose the range from a histogram.
        percentile: share of elements kept inside the range, in percent; only for ``percentile``.
        symmetric: whether the range must be symmetric around zero.
        bits: width of the codes that entropy and mse search for.
    """

    value: str
    calibrator: Calibrator = Calibrator.MINMAX
    percentile: float = 99.99
    symmetric: bool = False
    bits: int = 8


@dataclass(frozen=True)
class ChannelRange:
    """Smallest and largest value per channel: answered by two float32 arrays ``[C]``."""

    value: str
    axis: int = -1


@dataclass(frozen=True)
class ChannelAbsMax:
    """Largest magnitude per channel: answered by a float32 array ``[C]``."""

    value: str
    axis: int = -1


@dataclass(frozen=True)
class ChannelMean:
    """Mean per channel: answered by a float64 array ``[C]``."""

    value: str
    axis: int = -1


@dataclass(frozen=True)
class Rows:
    """A sample of rows of a value seen as ``[rows, C]``, C its last axis: float32 ``[<=count, C]``."""

    value: str
    count: int = 256


@dataclass(frozen=True)
class ChannelMeanSquare:
    """Mean square per channel, the importance of llama.cpp's imatrix: answered by a float32 array ``[C]``."""

    value: str
    axis: int = -1


@dataclass(frozen=True)
class Window:
    """What a convolution sees of a value ``[N, C, ...]`` at each place; the tuples are as its attributes.

    Attributes:
        channels: C.
    """

    channels: int
    kernel_shape: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def size(self) -> int:
        """Elements of a window: of a row of the weight ``[M, C, k...]``, and in its order."""
        return self.channels * math.prod(self.kernel_shape)


@dataclass(frozen=True)
class Gram:
    """X'X / rows of a value seen as rows ``[rows, C]``, C its last axis: answered by float32 ``[C, C]``.

    Attributes:
        axis: another axis than the last: 1 for what a convolution of 1x1 multiplies.
        window: for other convolutions, with axis 1: rows are windows, C is ``window.size``.
        drift: also (X_float - X)'X / rows ``[C, C]``, X_float being the same value in the float model on the same
            data (arXiv:2504.02692): answered by ``(gram, drift)``.
    """

    value: str
    drift: bool = False
    axis: int = -1
    window: Window | None = None


Request = Range | ChannelRange | ChannelAbsMax | ChannelMean | ChannelMeanSquare | Rows | Gram
