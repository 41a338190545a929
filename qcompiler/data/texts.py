"""Records that carry a text: tokenized when asked for, one feed each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from qcompiler.data.feeds import InputSpec
from qcompiler.data.options import DataOptions
from qcompiler.data.table import Record
from qcompiler.data.text import sequence_length, text_inputs
from qcompiler.data.tokenizer import load_encoder
from qcompiler.errors import CalibrationError


def is_text(record: Record, inputs: Sequence[InputSpec], options: DataOptions) -> bool:
    """Whether a record holds a text and none of the model's inputs."""
    names = {options.columns.get(spec.name, spec.name) for spec in inputs}
    return options.text_column in record and not names & set(record)


class TextFeeds(Sequence[Record]):
    """Texts as feeds ``[1, length]``: as long as the text is, cut to the sequence length; padded to it where the
    model fixes it."""

    def __init__(self, records: Sequence[Record], inputs: Sequence[InputSpec], options: DataOptions) -> None:
        self._records, self._inputs, self._column = records, inputs, options.text_column
        self._encoder = load_encoder(
            options.any_tokenizer, purpose=f"to read the texts in {options.text_column!r}"
        )
        length = sequence_length(inputs, options)
        fixed = any(
            spec.name == "input_ids" and spec.shape and isinstance(spec.shape[-1], int) for spec in inputs
        )
        self._pad_to = length if fixed else None
        self._longest = None if length is None else self._encoder.body(length)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        text = self._records[index].get(self._column)
        text = text.item() if hasattr(text, "item") else text  # a text from the spool is a 0-d array
        if not isinstance(text, str):
            raise CalibrationError(
                f"record {index}: {self._column!r} is no text. Name the text with --text-column."
            )
        ids = self._encoder.wrap(self._encoder.encode(text)[: self._longest])
        sample = text_inputs(ids, self._pad_to or len(ids), self._encoder.pad, self._inputs)
        return {name: array[None] for name, array in sample.items()}
