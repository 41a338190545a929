"""Token windows to score: of a text with a stride, or the rows of an ``.npz``."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompiler.data.tokenizer import TextEncoder
from qcompiler.errors import CalibrationError, OptionError

IDS, LENGTHS = "input_ids", "lengths"


@dataclass(frozen=True)
class Window:
    """Ids ``[T]``, of which those from ``first`` on are predicted and counted; ``first`` is at least 1."""

    ids: npt.NDArray[np.int64]
    first: int

    @property
    def predicted(self) -> int:
        """How many tokens count."""
        return len(self.ids) - self.first


@dataclass(frozen=True)
class Task:
    """Windows that make one figure.

    Attributes:
        name: of the text file, or of the array in the ``.npz``.
        windows: what is scored.
        bytes_scored: UTF-8 bytes of the predicted tokens, for bits a byte; None for ids.
    """

    name: str
    windows: Sequence[Window]
    bytes_scored: int | None = None


def sliding(count: int, length: int, stride: int) -> Iterator[tuple[int, int, int]]:
    """Windows ``[start, end)`` over ``count`` tokens, and the first position that each adds to the count.

    Every token but the first is counted exactly once, with at least ``length - stride`` tokens before it wherever the
    text has them (https://huggingface.co/docs/transformers/perplexity). Where the stride is the length, windows are
    disjoint and the first token of each is not counted.
    """
    counted = 0
    for start in range(0, count, stride):
        end = min(start + length, count)
        if end > start + 1:
            yield start, end, max(counted, start + 1)
        counted = end
        if end == count:
            return


def text_task(
    path: Path, encoder: TextEncoder, *, length: int, stride: int, limit: int | None = None
) -> Task:
    """Windows of a text file; the special tokens that begin a text stand once, before its first token.

    Args:
        length: tokens a window; ``stride``: tokens from one window to the next, at most ``length``.
        limit: at most so many windows.

    Raises:
        CalibrationError: not UTF-8, or fewer tokens than one window.
        OptionError: an impossible length or stride.
    """
    if length < 2 or not 1 <= stride <= length:
        raise OptionError(
            f"--length {length} --stride {stride}: expected a length of 2 or more and a stride from 1 to the length."
        )
    text = _read(path)
    encoding = encoder.tokenizer.encode(text, add_special_tokens=False)
    ids = np.array([*encoder.prefix, *encoding.ids], np.int64)
    if len(ids) < length:
        raise CalibrationError(
            f"{path} has {len(ids)} tokens, fewer than one window of {length}; give more text, or a shorter --length."
        )
    spans = list(sliding(len(ids), length, stride))[:limit]
    windows = [Window(ids[start:end], first - start) for start, end, first in spans]
    starts = np.array([*[0] * len(encoder.prefix), *[start for start, _ in encoding.offsets], len(text)])
    scored = (text[starts[first] : starts[end]] for _, end, first in spans)
    return Task(path.name, windows, sum(len(part.encode()) for part in scored))


def ids_tasks(path: Path, *, limit: int | None = None) -> list[Task]:
    """Rows of ``input_ids [n, T]``, cut to ``lengths [n]`` where given; else every array ``[n, T]`` is a task.

    Raises:
        CalibrationError: not such a file, or rows with fewer than two tokens.
    """
    try:
        with zipfile.ZipFile(path):  # np.load would speak of pickles
            pass
        with np.load(path) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise CalibrationError(
            f"{path} is no .npz of token ids ({error}); save it with numpy.savez."
        ) from error
    lengths = arrays.pop(LENGTHS, None)
    if IDS in arrays and len(arrays) > 1:
        others = ", ".join(sorted(set(arrays) - {IDS}))
        raise CalibrationError(f"{path} holds {others} beside {IDS}, expected only {LENGTHS}; leave it out.")
    if IDS not in arrays and lengths is not None:
        raise CalibrationError(f"{path} holds {LENGTHS}, but no {IDS} that they are of; name the ids {IDS}.")
    if not arrays:
        raise CalibrationError(f"{path} holds no array of token ids; save one as {IDS}.")
    return [_rows(path, name, array, lengths, limit) for name, array in arrays.items()]


def _rows(
    path: Path,
    name: str,
    ids: npt.NDArray[np.generic],
    lengths: npt.NDArray[np.generic] | None,
    limit: int | None,
) -> Task:
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.size:
        raise CalibrationError(
            f"{path}: {name} is {ids.dtype}{list(ids.shape)}, expected integers [rows, tokens]; give token ids."
        )
    wanted = np.full(len(ids), ids.shape[1]) if lengths is None else lengths
    if wanted.shape != (len(ids),) or wanted.dtype.kind not in "iu":
        raise CalibrationError(
            f"{path}: {LENGTHS} is {wanted.dtype}{list(wanted.shape)}, expected {len(ids)} integers, one a row."
        )
    ends = wanted.astype(np.int64)
    if ends.min() < 2 or ends.max() > ids.shape[1]:
        raise CalibrationError(
            f"{path}: rows have {ends.min()} to {ends.max()} of {ids.shape[1]} tokens, expected at least 2 and no more "
            "than there are; mend the lengths."
        )
    rows = ids.astype(np.int64)
    pairs = list(zip(rows, ends.tolist(), strict=True))[:limit]
    return Task(name, [Window(row[:end], 1) for row, end in pairs])


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise CalibrationError(f"{path} is not UTF-8 text ({error.reason}); convert it.") from error
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}; give a text file.") from error
    if "\0" in text:
        raise CalibrationError(f"{path} holds NUL characters: it is no text; give a text file.")
    return text
