"""The shape of a convolution or a pooling: everything but the batch is known before compiling."""

from __future__ import annotations

from dataclasses import dataclass, replace

from qcompiler.errors import UnsupportedError


@dataclass(frozen=True)
class ConvShape:
    """Sizes as ONNX has them in ``Conv``, ``MaxPool`` and ``AveragePool``.

    Attributes:
        height, width: of the input.
        channels: of the input.
        filters: channels of the result.
        kernel, strides, dilations: along height and width.
        pads: top, left, bottom, right.
        groups: of channels, each convolved alone.
    """

    height: int
    width: int
    channels: int
    filters: int
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        if self.channels % self.groups or self.filters % self.groups:
            raise UnsupportedError(
                f"convolution of {self.channels} into {self.filters} channels in {self.groups} groups: the groups "
                "must divide both; correct the model."
            )
        if min(self.out_height, self.out_width, *self.strides, *self.dilations) < 1 or min(self.pads) < 0:
            raise UnsupportedError(
                f"convolution of {self.height} x {self.width} by {self.kernel} with strides {self.strides}, pads "
                f"{self.pads}, dilations {self.dilations} has no result; correct the model."
            )

    @property
    def span(self) -> tuple[int, int]:
        """Rows and columns between the first and one behind the last that a result reads."""
        (rows, columns), (down, right) = self.kernel, self.dilations
        return (rows - 1) * down + 1, (columns - 1) * right + 1

    @property
    def out_height(self) -> int:
        return (self.height + self.pads[0] + self.pads[2] - self.span[0]) // self.strides[0] + 1

    @property
    def out_width(self) -> int:
        return (self.width + self.pads[1] + self.pads[3] - self.span[1]) // self.strides[1] + 1

    @property
    def padded_width(self) -> int:
        return self.width + self.pads[1] + self.pads[3]

    @property
    def depth(self) -> int:
        """Channels that one filter reads."""
        return self.channels // self.groups

    @property
    def products(self) -> int:
        """Multiplications for one image."""
        taps = self.kernel[0] * self.kernel[1]
        return self.out_height * self.out_width * self.filters * self.depth * taps

    @property
    def is_pointwise(self) -> bool:
        """Every result reads the one pixel at its place: a matrix product over all pixels."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and not any(self.pads)

    @property
    def is_depthwise(self) -> bool:
        """Every filter reads one channel of its own."""
        return self.groups == self.channels == self.filters

    def seen_as(self, height: int, width: int) -> ConvShape:
        """The same pixels of a pointwise convolution, in rows of another length."""
        return replace(self, height=height, width=width)
