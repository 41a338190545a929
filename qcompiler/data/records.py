"""Data that comes record by record: .jsonl lines, dataset rows, any Python iterable of feeds."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast, overload

import numpy as np

from qcompiler.data.feeds import Array, InputSpec
from qcompiler.data.hashing import hash_file, hash_records
from qcompiler.data.kinds import FEEDS, ROWS, TEXTS
from qcompiler.data.options import DataOptions
from qcompiler.data.source import Feeds, make_feeds
from qcompiler.data.spool import SpooledRecords
from qcompiler.data.table import FeedTable, Record, SampleTable
from qcompiler.data.texts import TextFeeds, is_text
from qcompiler.data.validation import as_array
from qcompiler.errors import CalibrationError


class JsonLines(Sequence[Record]):
    """Lines of a file as objects, parsed when asked for; only where each line starts is kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines = [(number, offset) for number, offset, line in _lines(path) if line.strip()]

    def __len__(self) -> int:
        return len(self._lines)

    def name(self, index: int) -> str:
        return f"line {self._lines[index][0]} of {self.path}"

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        with self.path.open("rb") as file:
            file.seek(self._lines[index][1])
            line = file.readline()
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise CalibrationError(f"{self.name(index)} is not JSON ({error}). Mend or remove it.") from error
        if not isinstance(record, dict):
            raise CalibrationError(
                f"{self.name(index)} is a {type(record).__name__}, expected an object with input names."
            )
        return record


def open_jsonl(path: Path, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """Feeds of a .jsonl: a line is a whole feed, or a text where its inputs are missing and a text is there."""
    lines = JsonLines(path)
    if len(lines) == 0:
        raise CalibrationError(f"{path} holds no lines. Give at least one.")
    texts = is_text(lines[0], inputs, options)
    records: Sequence[Record] = TextFeeds(lines, inputs, options) if texts else lines
    return make_feeds(
        FeedTable(records, lines.name),
        inputs,
        options,
        TEXTS if texts else FEEDS,
        description=f"{path} (a feed per line)",
        hash_content=hash_file(path),
    )


def open_dataset(rows: object, inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """Feeds of a Hugging Face dataset: a row is one sample without a batch axis, or a text.

    A streaming dataset is kept in a temporary folder, because it may come in another order the next time.
    """
    records = _random_access(rows, inputs, options)
    if len(records) == 0:
        raise CalibrationError("the dataset holds no rows. Give at least one.")

    def name(row: int) -> str:
        return f"row {row} of the dataset"

    if is_text(records[0], inputs, options):
        feeds = TextFeeds(records, inputs, options)
        return make_feeds(
            FeedTable(feeds, name),
            inputs,
            options,
            TEXTS,
            description="a dataset of texts",
            hash_content=hash_records(feeds),
        )
    wanted = _Columns(records, {options.columns.get(spec.name, spec.name) for spec in inputs})
    return make_feeds(
        SampleTable(records, name),
        inputs,
        options,
        ROWS,
        description="a dataset",
        hash_content=hash_records(wanted),
    )


def open_iterable(records: Iterable[object], inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """Feeds of a Python iterable of mappings; what has no random access is kept in a temporary folder."""
    if isinstance(records, Sequence):
        held: Sequence[Record] = records
    else:
        held = SpooledRecords(
            _plain(record, i, inputs, options) for i, record in _first(records, options.limit)
        )
    table = FeedTable(held, lambda row: f"feed {row} of the iterable")
    hashed = hash_records(held)
    return make_feeds(table, inputs, options, FEEDS, description="a Python iterable", hash_content=hashed)


class _Columns(Iterable[Record]):
    """The columns of rows that the model reads, for the content hash."""

    def __init__(self, rows: Sequence[Record], names: set[str]) -> None:
        self._rows, self._names = rows, names

    def __iter__(self) -> Iterator[Record]:
        for index in range(len(self._rows)):
            row = self._rows[index]
            yield {name: row[name] for name in sorted(self._names) if name in row}


def _random_access(rows: object, inputs: Sequence[InputSpec], options: DataOptions) -> Sequence[Record]:
    if hasattr(rows, "__len__") and hasattr(rows, "__getitem__"):
        return cast(Sequence[Record], rows)
    stream = cast(Iterable[object], rows)
    return SpooledRecords(_plain(row, i, inputs, options) for i, row in _first(stream, options.limit))


def _first(records: Iterable[object], limit: int | None) -> Iterator[tuple[int, object]]:
    return enumerate(itertools.islice(records, limit))


def _plain(record: object, index: int, inputs: Sequence[InputSpec], options: DataOptions) -> dict[str, Array]:
    """Return a record's values as arrays that can be written down."""
    label = f"record {index} of the stream"
    if not isinstance(record, Mapping):
        raise CalibrationError(
            f"{label} is a {type(record).__name__}, expected a mapping from input names to arrays."
        )
    specs = {options.columns.get(spec.name, spec.name): spec for spec in inputs}
    text = InputSpec(options.text_column, np.dtype(object), None)
    return {name: as_array(value, specs.get(name, text), label) for name, value in record.items()}


def _lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield (line number from 1, byte offset, line)."""
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            yield number, offset, line
            offset += len(line)
