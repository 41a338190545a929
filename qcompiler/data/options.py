"""How a user's data is read: the options next to ``--calib``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from qcompiler.errors import OptionError

Layout = Literal["NCHW", "NHWC"]

FLAGS = {
    "batch": "--calib-batch",
    "limit": "--calib-samples",
    "columns": "--calib-column",
    "image_size": "--image-size",
    "image_scale": "--image-scale",
    "image_mean": "--image-mean",
    "image_std": "--image-std",
    "image_layout": "--image-layout",
    "image_resize": "--image-resize",
    "image_order": "--image-order",
    "tokenizer": "--tokenizer",
    "length": "--sequence-length",
    "text_column": "--text-column",
    "seed": "--seed",
}
"""The command line's name of every field of :class:`DataOptions`."""


@dataclass(frozen=True)
class DataOptions:
    """Options of :func:`qcompiler.data.open_data`; the command line's name stands in brackets.

    One that differs from its default must have an effect on the data given (``qcompiler.data.kinds``).

    Attributes:
        batch: samples per feed, where the data is made of samples [--calib-batch].
        limit: use at most this many samples, or feeds where each record is a whole feed [--calib-samples].
            They are spread evenly over the data, because data is often sorted by class; of a text or a
            stream the first ones are taken, so that the rest need not be read.
        columns: name in the data by model input, where they differ [--calib-column INPUT=NAME].
        image_size: (height, width) in pixels; default from the model's input [--image-size].
        image_scale: factor on pixels 0..255, before mean and std [--image-scale].
        image_mean: subtracted after scaling, one value or one per channel [--image-mean].
        image_std: divides after the mean, one value or one per channel [--image-std].
        image_layout: default deduced from the model's input [--image-layout].
        image_resize: the picture is resized, aspect kept, to cover this many times ``image_size``, then cropped
            at the centre; 1.143 is ImageNet's 256 -> 224 [--image-resize].
        image_order: order of the colour channels [--image-order].
        tokenizer: a ``tokenizer.json`` or a folder with a tokenizer [--tokenizer].
        length: tokens per window; default the model's fixed length, or 128 [--sequence-length].
        text_column: name of the text in .jsonl lines and dataset rows [--text-column].
        seed: of ``random`` data [--seed].
        own_tokenizer: the folder of the model's own tokenizer, for text where ``tokenizer`` is None.
    """

    batch: int = 1
    limit: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    image_size: tuple[int, int] | None = None
    image_scale: float = 1 / 255
    image_mean: tuple[float, ...] = (0.0,)
    image_std: tuple[float, ...] = (1.0,)
    image_layout: Layout | None = None
    image_resize: float = 1.0
    image_order: Literal["RGB", "BGR"] = "RGB"
    tokenizer: Path | str | None = None
    length: int | None = None
    text_column: str = "text"
    seed: int = 0
    own_tokenizer: Path | None = None

    @property
    def any_tokenizer(self) -> Path | str | None:
        """The tokenizer given, else the model's own."""
        return self.tokenizer if self.tokenizer is not None else self.own_tokenizer

    def __post_init__(self) -> None:
        self._require(self.batch >= 1, "--calib-batch", self.batch, "at least 1")
        self._require(self.limit is None or self.limit >= 1, "--calib-samples", self.limit, "at least 1")
        self._require(self.length is None or self.length >= 1, "--sequence-length", self.length, "at least 1")
        size = self.image_size
        self._require(size is None or min(size) >= 1, "--image-size", size, "height and width of at least 1")
        self._require(self.image_resize >= 1, "--image-resize", self.image_resize, "at least 1")
        self._require(self.seed >= 0, "--seed", self.seed, "at least 0")
        self._require_numbers("--image-scale", (self.image_scale,))
        self._require_numbers("--image-mean", self.image_mean)
        self._require_numbers("--image-std", self.image_std)
        self._require(all(self.image_std), "--image-std", self.image_std, "values other than 0")
        self._require(
            self.image_layout in (None, "NCHW", "NHWC"), "--image-layout", self.image_layout, "NCHW or NHWC"
        )
        self._require(self.image_order in ("RGB", "BGR"), "--image-order", self.image_order, "RGB or BGR")

    def _require_numbers(self, flag: str, values: tuple[float, ...]) -> None:
        fits = len(values) in (1, 3) and all(map(math.isfinite, values))
        self._require(fits, flag, values, "1 or 3 finite numbers")

    @staticmethod
    def _require(fits: bool, flag: str, seen: object, expected: str) -> None:
        if not fits:
            raise OptionError(f"{flag} is {seen}, expected {expected}.")
