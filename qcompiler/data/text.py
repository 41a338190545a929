"""Text through a tokenizer: windows of a file, or one feed per text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from qcompiler.data.empty_cache import empty_past
from qcompiler.data.feeds import Array, InputSpec
from qcompiler.data.hashing import hash_file
from qcompiler.data.kinds import TEXT
from qcompiler.data.npy import NpyHeader, NpyRows
from qcompiler.data.options import DataOptions
from qcompiler.data.source import Feeds, make_feeds
from qcompiler.data.spool import Spool
from qcompiler.data.table import SampleTable
from qcompiler.data.tokenizer import TextEncoder, load_encoder
from qcompiler.errors import CalibrationError

DEFAULT_LENGTH = 128
_BLOCK_CHARACTERS = 1 << 16
_LONGEST_LINE_REST = 1 << 12


class Windows(Sequence[dict[str, Array]]):
    """Successive windows of a text, without overlap; token ids wait in a temporary file."""

    def __init__(
        self, path: Path, encoder: TextEncoder, length: int, inputs: Sequence[InputSpec], limit: int | None
    ):
        self._encoder, self._length, self._inputs = encoder, length, inputs
        self._body = encoder.body(length)
        self._spool = Spool()
        wanted = None if limit is None else limit * self._body
        tokens = _spool_tokens(path, encoder, self._spool, wanted)
        count = tokens // self._body
        if count == 0:
            raise CalibrationError(
                f"{path} has {tokens} tokens, fewer than one window of {self._body}. "
                "Give more text, or a shorter --sequence-length."
            )
        header = NpyHeader(
            (count if limit is None else min(count, limit), self._body), np.dtype(np.int32), False, 0
        )
        self._rows = NpyRows(self._spool.path / "tokens", header)

    def __len__(self) -> int:
        return self._rows.shape[0]

    @overload
    def __getitem__(self, index: int) -> dict[str, Array]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Array]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Array] | list[dict[str, Array]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        ids = self._encoder.wrap(self._rows.read((index,))[0].tolist())
        return text_inputs(ids, self._length, self._encoder.pad, self._inputs)


def open_text(path: Path, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """Feeds of windows of a UTF-8 text file.

    Raises:
        CalibrationError: no tokenizer, not UTF-8, less than one window, or inputs that text cannot fill.
    """
    encoder = load_encoder(options.any_tokenizer, purpose=f"to read the text {path}")
    length = sequence_length(inputs, options) or DEFAULT_LENGTH
    windows = Windows(path, encoder, length, inputs, options.limit)
    table = SampleTable(windows, lambda row: f"window {row} of {path}")
    description = f"{path} (windows of {length} tokens by {encoder.name})"
    return make_feeds(table, inputs, options, TEXT, description=description, hash_content=hash_file(path))


def sequence_length(inputs: Sequence[InputSpec], options: DataOptions) -> int | None:
    """Return the length the model fixes, or the option's, or None when it is free.

    Raises:
        CalibrationError: the option differs from what the model fixes.
    """
    spec = next((spec for spec in inputs if spec.name == "input_ids"), None)
    fixed = spec.shape[-1] if spec is not None and spec.shape else None
    if not isinstance(fixed, int):
        return options.length
    if options.length not in (None, fixed):
        raise CalibrationError(
            f"--sequence-length is {options.length}, but the model fixes {fixed} ({spec}). Leave it out."
        )
    return fixed


def text_inputs(ids: list[int], length: int, pad: int, inputs: Sequence[InputSpec]) -> dict[str, Array]:
    """Return the inputs ``[length]`` of one text, padded at the end; an empty cache for a decoder's past.

    Raises:
        CalibrationError: an input that text cannot fill.
    """
    padding = length - len(ids)
    known: dict[str, Array] = {
        "input_ids": np.array([*ids, *[pad] * padding], np.int64),
        "attention_mask": np.array([1] * len(ids) + [0] * padding, np.int64),
        "token_type_ids": np.zeros(length, np.int64),
        "position_ids": np.arange(length, dtype=np.int64),
    }
    sample: dict[str, Array] = {}
    for spec in inputs:
        past = empty_past(spec)
        if spec.name not in known and past is None:
            raise CalibrationError(
                f"text cannot fill the model input {spec}, only {', '.join(known)}. Prepare a folder of .npz."
            )
        sample[spec.name] = known[spec.name] if past is None else past
    return sample


def _spool_tokens(path: Path, encoder: TextEncoder, spool: Spool, wanted: int | None) -> int:
    """Write the text's ids as int32 to the spool, up to ``wanted``; return how many."""
    count = 0
    with (spool.path / "tokens").open("wb") as file:
        for block in _blocks(path):
            ids = np.array(encoder.encode(block), np.int32)
            spool.charge(ids.nbytes)
            file.write(ids.tobytes())
            count += ids.size
            if wanted is not None and count >= wanted:
                break
    return count


def _blocks(path: Path) -> Iterator[str]:
    """Yield the text in blocks that end, as a rule, at the end of a line."""
    try:
        with path.open(encoding="utf-8") as file:
            while block := file.read(_BLOCK_CHARACTERS):
                if "\0" in block:
                    raise CalibrationError(f"{path} holds NUL characters: it is no text. Give a text file.")
                yield block + file.readline(_LONGEST_LINE_REST)
    except UnicodeDecodeError as error:
        raise CalibrationError(
            f"{path} is not UTF-8 text ({error.reason}). Convert it, or give another format."
        ) from error
