"""What a metric is computed on: feeds, and what the right answers are.

An ``.npz`` (or a dict of arrays) holds one array per model input and beside them, with as many rows, the answers:

| metric | array | |
|---|---|---|
| top1 | ``labels`` or ``label`` ``[n]`` | class index; for outputs ``[n, T, C]`` also ``[n, T]`` |
| spearman | ``scores``, ``score`` or ``similarity`` ``[n]`` or ``[n / 2]`` | of the pair that rows 2i and 2i + 1 are |
| perplexity | ``lengths`` ``[n]``, optional | tokens of a row of ``input_ids`` that count; else the attention mask's |
| the user's | any | ``data.extras[name]`` |
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.data import input_specs, open_data
from qcompiler.data.arrays import ArrayTable
from qcompiler.data.feeds import Feed, FeedSource
from qcompiler.data.options import DataOptions
from qcompiler.data.source import Feeds
from qcompiler.errors import CalibrationError, OptionError

Array = npt.NDArray[Any]
LABELS = ("labels", "label")
SCORES = ("scores", "score", "similarity")
LENGTHS = ("lengths",)


@dataclass(frozen=True)
class MetricData:
    """Feeds and what stands beside them; iterating gives the feeds, any number of times.

    Attributes:
        feeds: of the model's inputs alone.
        extras: other arrays of the data by name, one row a sample, in the order of the samples over all feeds.
    """

    feeds: FeedSource
    extras: Mapping[str, Array] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Feed]:
        return iter(self.feeds)

    @property
    def description(self) -> str:
        """What the data is, in words."""
        return self.feeds.description

    def first(self, names: tuple[str, ...]) -> Array | None:
        """The first of some extras that is there."""
        return next((self.extras[name] for name in names if name in self.extras), None)


def open_metric_data(
    model: ir.Model, data: object | None, held_out: FeedSource, options: DataOptions | None = None
) -> MetricData:
    """Open the data of ``--metric-data``; by default what was held out of calibration.

    Args:
        model: the float model, whose inputs the data must fit.
        data: whatever ``--calib`` takes; None for ``held_out``.
        held_out: data of the same kind, opened before.
        options: how calibration data is read; what applies to ``data`` is followed there too, but for the limit of
            samples.

    Raises:
        CalibrationError: it cannot be read, or does not fit.
    """
    feeds = held_out if data is None else _opened(model, data, options or DataOptions())
    return MetricData(feeds, _extras(feeds, {spec.name for spec in input_specs(model)}))


def _opened(model: ir.Model, data: object, options: DataOptions) -> FeedSource:
    specs, whole = input_specs(model), replace(options, limit=None)
    try:
        return open_data(data, specs, whole)
    except OptionError:  # pictures calibrate and arrays measure: options of the one are none of the other's
        tokenizer = options.any_tokenizer
        return open_data(
            data, specs, DataOptions(own_tokenizer=None if tokenizer is None else Path(tokenizer))
        )


def _extras(feeds: FeedSource, inputs: set[str]) -> dict[str, Array]:
    """Arrays that are no input of the model, at the rows that the feeds are made of.

    Raises:
        CalibrationError: answers that are not as many as samples.
    """
    if not isinstance(feeds, Feeds) or not isinstance(feeds.table, ArrayTable):
        return {}
    table, read = feeds.table, inputs | {feeds.checker.source_name(name) for name in inputs}
    found = {}
    for name, column in table.columns.items():
        count = column.shape[0] if column.shape and name not in read else 0
        if count == len(table):
            found[name] = np.asarray(column.read(feeds.rows))
        elif 2 * count == len(table) == len(feeds.rows) and name in SCORES:
            found[name] = np.repeat(np.asarray(column.read(range(count))), 2)
        elif name not in read and name in (*LABELS, *SCORES, *LENGTHS):
            raise CalibrationError(
                f"{name!r} of {feeds.description} has {count} rows beside {len(table)} samples; give one for each."
            )
    return found
