"""How data is read, from the command line: one option per field of :class:`qcompiler.data.options.DataOptions`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qcompiler.cli.options import DATA
from qcompiler.errors import OptionError, QCompilerError

if TYPE_CHECKING:
    from qcompiler.data.options import DataOptions

_option = functools.partial(typer.Option, rich_help_panel=DATA)

_BATCH = "Samples per run of the model."
_SAMPLES = "Use at most this many samples. Default: all."
_COLUMN = "Name in the data of a model input, where they differ. Repeatable."
_PAIR = "INPUT=NAME"


@dataclass(frozen=True)
class Reading:
    """The options that say how calibration and verification data are read."""

    calib_batch: Annotated[int, _option(help=_BATCH)] = 1
    calib_samples: Annotated[int | None, _option(help=_SAMPLES)] = None
    calib_column: Annotated[list[str] | None, _option(help=_COLUMN, metavar=_PAIR)] = None
    image_size: Annotated[
        str | None,
        _option(help="Pixels: 224, or height x width: 480x640. Default: the model's.", metavar="SIZE"),
    ] = None
    image_scale: Annotated[
        float, _option(help="Factor on pixels 0..255, before the mean.", show_default="1/255")
    ] = 1 / 255
    image_mean: Annotated[
        str,
        _option(
            help="Subtracted after scaling; one number or one per channel: 0.485,0.456,0.406.",
            metavar="NUMBERS",
        ),
    ] = "0"
    image_std: Annotated[str, _option(help="Divides after the mean.", metavar="NUMBERS")] = "1"
    image_layout: Annotated[
        Literal["NCHW", "NHWC"] | None, _option(help="Default: deduced from the model's input.")
    ] = None
    image_resize: Annotated[
        float,
        _option(
            help="Resize to this many times the size, then crop at the centre; 1.143 is ImageNet's 256 to 224."
        ),
    ] = 1.0
    image_order: Annotated[Literal["RGB", "BGR"], _option(help="Order of the colour channels.")] = "RGB"
    tokenizer: Annotated[
        Path | None, _option(help="tokenizer.json, or a folder with a tokenizer, for text.")
    ] = None
    sequence_length: Annotated[
        int | None, _option(help="Tokens per window. Default: the model's, or 128.")
    ] = None
    text_column: Annotated[str, _option(help="Name of the text in .jsonl lines.")] = "text"
    seed: Annotated[int, _option(help="Seed of random data.")] = 0

    def options(self, model: Path | None = None) -> DataOptions:
        """Check and convert.

        Args:
            model: its own tokenizer, beside it, reads texts where none is given.

        Raises:
            OptionError: an impossible value.
        """
        from qcompiler.data.options import DataOptions

        _check_length(self.sequence_length, model)
        return DataOptions(
            batch=self.calib_batch,
            limit=self.calib_samples,
            columns=parse_columns(self.calib_column),
            image_size=parse_size(self.image_size),
            image_scale=self.image_scale,
            image_mean=parse_numbers(self.image_mean, "--image-mean"),
            image_std=parse_numbers(self.image_std, "--image-std"),
            image_layout=self.image_layout,
            image_resize=self.image_resize,
            image_order=self.image_order,
            tokenizer=self.tokenizer,
            length=self.sequence_length,
            text_column=self.text_column,
            seed=self.seed,
            own_tokenizer=_tokenizer_beside(model),
        )


@dataclass(frozen=True)
class PlainReading(Reading):
    """The same for commands whose data calibrates nothing, under names that do not say so."""

    calib_batch: Annotated[int, _option("--batch", help=_BATCH)] = 1
    calib_samples: Annotated[int | None, _option("--samples", help=_SAMPLES)] = None
    calib_column: Annotated[list[str] | None, _option("--column", help=_COLUMN, metavar=_PAIR)] = None


@contextlib.contextmanager
def plain_names() -> Iterator[None]:
    """Let errors name the options as :class:`PlainReading` does."""
    try:
        yield
    except QCompilerError as error:
        raise type(error)(str(error).replace("--calib-", "--")) from error


def _tokenizer_beside(model: Path | None) -> Path | None:
    """The folder of ``model`` where it holds a tokenizer."""
    from qcompiler.models.checkpoint_files import TOKENIZERS

    folder = model.parent if model is not None else None
    return folder if folder is not None and any((folder / name).is_file() for name in TOKENIZERS) else None


def _check_length(length: int | None, model: Path | None) -> None:
    """Refuse windows that are longer than the configuration beside ``model`` says texts may be."""
    if length is None or model is None or not model.is_file():
        return
    from qcompiler.language.folder import open_folder

    longest = open_folder(model).context_length
    if longest is not None and length > longest:
        raise OptionError(
            f"--sequence-length {length} is more than the model's context of {longest}; give at most that."
        )


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``224`` or ``480x640`` as (height, width)."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdigit() for part in parts):
        raise OptionError(f"--image-size is {text!r}, expected pixels: 224, or height x width: 480x640.")
    return int(parts[0]), int(parts[-1])


def parse_numbers(text: str, flag: str) -> tuple[float, ...]:
    """``0.485,0.456,0.406`` as numbers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise OptionError(f"{flag} is {text!r}, expected 1 or 3 numbers with commas: 0.5,0.5,0.5.") from error


def parse_columns(pairs: Sequence[str] | None) -> dict[str, str]:
    """``INPUT=NAME`` words as a mapping."""
    columns: dict[str, str] = {}
    for pair in pairs or ():
        name, equals, column = pair.partition("=")
        if not (name and equals and column):
            raise OptionError(f"--calib-column is {pair!r}, expected INPUT=NAME.")
        if name in columns:
            raise OptionError(f"--calib-column names the input {name!r} twice.")
        columns[name] = column
    return columns
