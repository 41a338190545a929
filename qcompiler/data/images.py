"""A folder of pictures: decoded, resized, cropped at the centre, scaled and normalized; needs ``pillow``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from qcompiler.data.feeds import Array, InputSpec
from qcompiler.data.hashing import hash_files
from qcompiler.data.kinds import PICTURES, Kind
from qcompiler.data.optional import load_package
from qcompiler.data.options import DataOptions, Layout
from qcompiler.data.reason import first_line
from qcompiler.data.source import Feeds, make_feeds
from qcompiler.data.table import SampleTable
from qcompiler.errors import CalibrationError

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp"})


@dataclass(frozen=True)
class PictureFormat:
    """How a picture becomes the model's input: float ``(pixel * scale - mean) / std``, or raw uint8."""

    name: str
    height: int
    width: int
    channels: int
    layout: Layout
    raw: bool
    options: DataOptions

    @property
    def kind(self) -> Kind:
        """Pictures, less the options that raw pixels and a single channel leave without effect."""
        kind = PICTURES
        if self.raw:
            kind = kind.but("image_scale", "image_mean", "image_std", name="pictures of raw pixels")
        if self.channels == 1:
            kind = kind.but("image_order", name=f"{kind.name} in one channel")
        return kind

    def __str__(self) -> str:
        shown = f"{self.height}x{self.width} {self.layout} {'L' if self.channels == 1 else self.options.image_order}"
        if self.raw:
            return f"{shown}, pixels as they are"
        scale, mean, std = self.options.image_scale, self.options.image_mean, self.options.image_std
        return f"{shown}, scale {scale:.6g}, mean {_shown(mean)}, std {_shown(std)}"


class Pictures(Sequence[dict[str, Array]]):
    """Samples ``{input: [C, H, W] or [H, W, C]}``, decoded when asked for."""

    def __init__(self, paths: Sequence[Path], form: PictureFormat) -> None:
        self.paths = paths
        self.form = form

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> dict[str, Array]: ...
    @overload
    def __getitem__(self, index: slice) -> Pictures: ...
    def __getitem__(self, index: int | slice) -> dict[str, Array] | Pictures:
        if isinstance(index, slice):
            return Pictures(self.paths[index], self.form)
        return {self.form.name: _to_array(_decode(self.paths[index], self.form), self.form)}


def open_pictures(
    folder: Path, paths: Sequence[Path], inputs: Sequence[InputSpec], options: DataOptions
) -> Feeds:
    """Feeds of the pictures ``paths`` below ``folder``, in the order of their names.

    Raises:
        CalibrationError: the model does not take one picture, its size or layout is unknown, or pillow is missing.
    """
    load_package("PIL.Image", purpose="to read pictures")
    form = picture_format(inputs, options)
    if not form.raw and options.image_mean == (0.0,) and options.image_std == (1.0,):
        logger.warning(
            "pictures are only scaled by %.6g: a model of normalized ones needs --image-mean and --image-std",
            options.image_scale,
        )
    table = SampleTable(Pictures(paths, form), lambda row: str(paths[row]))
    description = f"{folder} (pictures, {form})"
    hashed = hash_files(paths, folder)
    return make_feeds(table, inputs, options, form.kind, description=description, hash_content=hashed)


def picture_format(inputs: Sequence[InputSpec], options: DataOptions) -> PictureFormat:
    """Deduce size, channels and layout from the model's only input; options come first."""
    spec = inputs[0]
    if len(inputs) != 1 or spec.shape is None or len(spec.shape) != 4 or spec.dtype.kind not in "fVu":
        shown = "; ".join(map(str, inputs))
        raise CalibrationError(f"pictures need a model with one input of rank 4, not {shown}. Give a .npz.")
    layout = options.image_layout or _deduce_layout(spec)
    channels, height, width = (spec.shape[axis] for axis in ((1, 2, 3) if layout == "NCHW" else (3, 1, 2)))
    if channels not in (1, 3) and isinstance(channels, int):
        raise CalibrationError(
            f"input {spec} has {channels} channels as {layout}, expected 1 or 3. Set --image-layout."
        )
    size = options.image_size or (height, width)
    if not isinstance(size[0], int) or not isinstance(size[1], int):
        raise CalibrationError(
            f"input {spec} does not fix the picture's size. Give --image-size HEIGHT,WIDTH."
        )
    raw = spec.dtype == np.uint8
    count = channels if isinstance(channels, int) else 3
    if count == 1 and max(len(options.image_mean), len(options.image_std)) > 1:
        raise CalibrationError(
            f"input {spec} has 1 channel. Give one value for --image-mean and --image-std."
        )
    return PictureFormat(spec.name, size[0], size[1], count, layout, raw, options)


def _deduce_layout(spec: InputSpec) -> Layout:
    assert spec.shape is not None
    first, last = spec.shape[1] in (1, 3), spec.shape[3] in (1, 3)
    if first == last:
        raise CalibrationError(f"the layout of input {spec} is unclear. Give --image-layout NCHW or NHWC.")
    return "NCHW" if first else "NHWC"


def _decode(path: Path, form: PictureFormat) -> Image:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            picture = opened.convert("L" if form.channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = first_line(error)
        raise CalibrationError(
            f"cannot decode the picture {path} ({reason}). Remove or replace it."
        ) from error
    scale = form.options.image_resize
    covered = (round(form.width * scale), round(form.height * scale))
    if picture.size != covered:
        picture = ImageOps.fit(picture, covered, Image.Resampling.BILINEAR)
    left, top = (covered[0] - form.width) // 2, (covered[1] - form.height) // 2
    return picture.crop((left, top, left + form.width, top + form.height))


def _to_array(picture: Image, form: PictureFormat) -> Array:
    pixels = np.asarray(picture).reshape(form.height, form.width, form.channels)
    if form.options.image_order == "BGR":
        pixels = pixels[:, :, ::-1]
    if not form.raw:
        options = form.options
        mean, std = (np.asarray(values, np.float32) for values in (options.image_mean, options.image_std))
        pixels = (pixels.astype(np.float32) * np.float32(options.image_scale) - mean) / std
    return pixels.transpose(2, 0, 1) if form.layout == "NCHW" else pixels


def find_pictures(folder: Path) -> Iterator[Path]:
    """Yield the pictures below ``folder``, also in sub-folders (one per class is usual); hidden ones are left."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file() and not hidden:
            yield path


def _shown(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)
