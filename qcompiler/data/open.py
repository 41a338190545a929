"""From whatever the user gives to a source of feeds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from qcompiler.data.arrays import (
    open_array,
    open_dict,
    open_npy_samples,
    open_npz_samples,
)
from qcompiler.data.feeds import FeedSource, InputSpec
from qcompiler.data.folder import open_npz_folder
from qcompiler.data.images import PICTURE_SUFFIXES, find_pictures, open_pictures
from qcompiler.data.kinds import OPENED, refuse_unread
from qcompiler.data.options import DataOptions
from qcompiler.data.random import open_random
from qcompiler.data.records import open_dataset, open_iterable, open_jsonl
from qcompiler.data.source import Feeds
from qcompiler.data.tensors import open_safetensors
from qcompiler.data.text import open_text
from qcompiler.errors import CalibrationError, suggest

Opener = Callable[[Path, Sequence[InputSpec], DataOptions], Feeds]

_OPENERS: dict[str, Opener] = {
    ".npz": open_npz_samples,
    ".npy": open_npy_samples,
    ".safetensors": open_safetensors,
    ".jsonl": open_jsonl,
    ".txt": open_text,
}

ACCEPTED = (
    f"{', '.join(_OPENERS)}, a folder of .npz or of pictures ({' '.join(sorted(PICTURE_SUFFIXES))}), "
    "a text with --tokenizer, or random"
)


def open_data(source: object, inputs: Sequence[InputSpec], options: DataOptions) -> FeedSource:
    """Return the feeds of ``source`` for a model with these ``inputs``.

    Args:
        source: a path, ``"random"``, an array (for one input), a dict of arrays, a Hugging Face dataset, an
            iterable of feeds, or a source that was opened before.

    Raises:
        CalibrationError: the data is missing, damaged, or does not fit; the first feed is checked here, the
            others when they are read.
        OptionError: an option that has no effect on this kind of data, or cannot be served.
    """
    return open_each([source], inputs, options)[0]


def open_each(
    sources: Sequence[object], inputs: Sequence[InputSpec], options: DataOptions
) -> list[FeedSource]:
    """Open several sources with the same options, each of which must have an effect on at least one of them.

    Raises:
        CalibrationError, OptionError: as :func:`open_data`.
    """
    opened = [_open(source, inputs, options) for source in sources]
    kinds = [
        feeds.kind if isinstance(feeds, Feeds) and feeds is not source else OPENED
        for source, feeds in zip(sources, opened, strict=True)
    ]
    if kinds:
        refuse_unread(options, kinds)
    return opened


def _open(source: object, inputs: Sequence[InputSpec], options: DataOptions) -> FeedSource:
    if isinstance(source, Feeds | FeedSource):  # Feeds first: the protocol's check would hash the data
        return source
    if not inputs:
        raise CalibrationError(
            "the model has no inputs, so there is nothing to feed. Compile it without --calib."
        )
    if isinstance(source, str) and source == "random":
        return open_random(inputs, options)
    if isinstance(source, str | Path):
        return _open_path(Path(source), inputs, options)
    return _open_object(source, inputs, options)


def _open_path(path: Path, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    try:
        if not path.exists():
            raise CalibrationError(f"the calibration data {path} does not exist.{_similar(path)}")
        if path.is_dir():
            return _open_folder(path, inputs, options)
        if path.stat().st_size == 0:
            raise CalibrationError(f"{path} is empty (0 bytes). Give a file with at least one sample.")
        return _open_file(path, inputs, options)
    except OSError as error:
        raise CalibrationError(
            f"cannot read {path}: {error.strerror or error}. Check the path and its permissions."
        ) from error


def _similar(path: Path) -> str:
    names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    hint = suggest(path.name, names)
    return hint if "Did you mean" in hint else " Check the path."


def _open_file(path: Path, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    suffix = path.suffix.lower()
    if suffix in PICTURE_SUFFIXES:
        return open_pictures(path.parent, [path], inputs, options)
    if suffix in _OPENERS:
        return _OPENERS[suffix](path, inputs, options)
    if options.tokenizer is not None:
        return open_text(path, inputs, options)
    raise CalibrationError(f"{path} is of no known kind. Give {ACCEPTED}.")


def _open_folder(folder: Path, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    archives = sorted(path for path in folder.glob("*.npz") if path.is_file())
    pictures = sorted(find_pictures(folder))
    if archives and pictures:
        raise CalibrationError(
            f"{folder} holds both .npz files ({len(archives)}) and pictures ({len(pictures)}). Keep one kind."
        )
    if archives:
        return open_npz_folder(folder, archives, inputs, options)
    if pictures:
        return open_pictures(folder, pictures, inputs, options)
    raise CalibrationError(f"the folder {folder} holds neither .npz files nor pictures. Give {ACCEPTED}.")


def _open_object(source: object, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    if isinstance(source, np.ndarray):
        return open_array(source, inputs, options)
    if isinstance(source, Mapping):
        if any(hasattr(value, "column_names") for value in source.values()):
            raise CalibrationError(
                f"the data is a dict of datasets ({', '.join(map(str, source))}). Give one split."
            )
        return open_dict(source, inputs, options)
    if hasattr(source, "column_names") and (hasattr(source, "__getitem__") or isinstance(source, Iterable)):
        return open_dataset(source, inputs, options)
    if isinstance(source, Iterable) and not isinstance(source, bytes | bytearray):
        return open_iterable(source, inputs, options)
    raise CalibrationError(
        f"calibration data cannot be a {type(source).__name__}. Give {ACCEPTED}, or an iterable of feeds."
    )
