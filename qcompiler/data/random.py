"""Made-up feeds, for trying a pipeline without data: the ranges they give mean nothing."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import overload

import numpy as np

from qcompiler.data.feeds import Array, Dim, InputSpec
from qcompiler.data.hashing import hash_records
from qcompiler.data.kinds import RANDOM, Kind
from qcompiler.data.options import DataOptions
from qcompiler.data.source import Feeds, make_feeds
from qcompiler.data.table import FeedTable, Record
from qcompiler.errors import CalibrationError

logger = logging.getLogger(__name__)

WORTH = "RANDOM data: ranges and accuracy figures made with it mean nothing for real use"

_FEEDS = 16
_INTEGERS_BELOW = 64
_LENGTH = 32


class RandomFeeds(Sequence[Record]):
    """Feeds by number, each from its own seed: normal floats, small integers, masks of ones.

    The first dimension and dimensions of the same name are ``batch`` where symbolic, a name that begins with
    "past" is 0 (an empty cache), and all others are the sequence length.
    """

    def __init__(self, inputs: Sequence[InputSpec], options: DataOptions) -> None:
        self._inputs, self._options = inputs, options
        self._batch_names = {
            spec.shape[0] for spec in inputs if spec.shape and isinstance(spec.shape[0], str)
        }

    def __len__(self) -> int:
        return self._options.limit or _FEEDS

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> list[Record]: ...
    def __getitem__(self, index: int | slice) -> Record | list[Record]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index >= len(self):
            raise IndexError(index)  # a sequence without an end would be iterated forever
        generator = np.random.default_rng((self._options.seed, index))
        return {spec.name: self._make(spec, generator) for spec in self._inputs}

    @property
    def kind(self) -> Kind:
        """Random data, less the options that size no dimension of this model."""
        sized = {
            self._option(dim, axis) for spec in self._inputs for axis, dim in enumerate(spec.shape or ())
        }
        unsized = {"batch", "length"} - sized
        return RANDOM.but(*unsized, name="random data for these inputs") if unsized else RANDOM

    def _make(self, spec: InputSpec, generator: np.random.Generator) -> Array:
        if spec.shape is None:
            raise CalibrationError(f"random data needs the rank of input {spec}. Give real data.")
        shape = [self._size(dim, axis) for axis, dim in enumerate(spec.shape)]
        if spec.dtype.kind == "b" or "mask" in spec.name:
            return np.ones(shape, spec.dtype)
        if "token_type" in spec.name:
            return np.zeros(shape, spec.dtype)
        if "position" in spec.name and shape:
            return np.broadcast_to(np.arange(shape[-1]), shape).astype(spec.dtype)
        if spec.dtype.kind in "iu":
            return generator.integers(0, min(spec.ids or _INTEGERS_BELOW, _INTEGERS_BELOW), shape).astype(
                spec.dtype
            )
        if spec.dtype == object:
            raise CalibrationError(f"random data cannot fill the text input {spec}. Give real data.")
        return np.asarray(generator.standard_normal(shape)).astype(spec.dtype)

    def _size(self, dim: Dim, axis: int) -> int:
        if isinstance(dim, int):
            return dim
        option = self._option(dim, axis)
        if option == "batch":
            return self._options.batch
        return (self._options.length or _LENGTH) if option else 0

    def _option(self, dim: Dim, axis: int) -> str:
        """The option that sizes a dimension; empty where none does."""
        if isinstance(dim, int):
            return ""
        if axis == 0 or dim in self._batch_names:
            return "batch"
        return "" if dim is not None and dim.startswith("past") and "+" not in dim else "length"


def open_random(inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """Feeds for ``--calib random``; says loudly what they are worth."""
    logger.warning("%s", WORTH)
    return invent(inputs, options)


def invent(inputs: Sequence[InputSpec], options: DataOptions) -> Feeds:
    """The same feeds where nobody asked for them: something to run a model on when no data is given."""
    feeds = RandomFeeds(inputs, options)
    table = FeedTable(feeds, lambda row: f"random feed {row}")
    return make_feeds(table, inputs, options, feeds.kind, description=WORTH, hash_content=hash_records(feeds))
