"""Formats of a ladder and a positive scale per group, without offset: how all of them are fitted."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.formats.base import Float32, Format, Grid, Search
from qcompiler.numerics.formats.blocks import Block, for_each, group_count, in_rows, split
from qcompiler.numerics.formats.half import half_above, half_nearest
from qcompiler.numerics.formats.scale_search import ScaleSearch
from qcompiler.numerics.formats.weighting import cost, weights_of

RATIOS = tuple(float(ratio) for ratio in np.linspace(1.1, 0.6, 21))
"""Multiples of the first scale that searches try."""


class Scaled(Format):
    """A ladder without offset; a subclass says where a scale starts and how it is stored."""

    @property
    def ratios(self) -> Sequence[float]:
        """Multiples of the first scale that searches try."""
        return RATIOS

    @abc.abstractmethod
    def start(self, values: Float32) -> Float32:
        """Scale ``[G, N]`` of ``values [G, S, N]`` without search, as stored."""

    def store(self, scale: Float32) -> Float32:
        """``scale`` as its stored form gives it back; here 16 bits."""
        return half_nearest(scale)

    def searches(self) -> Mapping[Search, str]:
        """All of them."""
        return dict.fromkeys(Search, "")

    def fit(
        self, weights: Float32, *, search: Search = Search.MINMAX, importance: Float32 | None = None
    ) -> Grid:
        """Scale of every group: ``start`` for MINMAX, else searched from there and never worse.

        Raises:
            UnsupportedError: a scale is above what its stored form holds.
        """
        return Grid(self.scales(weights, search, importance))

    def scales(self, weights: Float32, search: Search, importance: Float32 | None) -> Float32:
        """Scales ``[G, N]`` of ``weights [K, N]``."""
        scale = np.empty((group_count(weights.shape[0], self.group), weights.shape[1]), np.float32)

        def work(block: Block) -> None:
            values = in_rows(block.of(weights))
            found = self.start(values)
            if search is not Search.MINMAX:
                each = weights_of(search, values, None if importance is None else block.of_rows(importance))
                found = ScaleSearch(self, values, each, search, self.store).run(found, self.ratios)
            scale[block.groups, block.columns] = found

        for_each(split(weights.shape, self.group), work)
        return scale

    def costs(
        self, weights: Float32, scale: Float32, search: Search, importance: Float32 | None
    ) -> npt.NDArray[np.float64]:
        """Squared errors of every group, weighed as ``search`` does: ``[G, N]`` for ``scale [G, N]``."""
        found = np.empty(scale.shape, np.float64)

        def work(block: Block) -> None:
            values, tall = in_rows(block.of(weights)), scale[block.groups, None, block.columns]
            rows = None if importance is None else block.of_rows(importance)
            errors = self.values_of(self.codes_of(values, tall, None), tall, None)
            errors -= values
            found[block.groups, block.columns] = cost(Search.MSE, errors, weights_of(search, values, rows))

        for_each(split(weights.shape, self.group), work)
        return found


def largest_magnitude(values: Float32) -> Float32:
    """``max |x|`` along axis 1 of ``[G, S, N]``."""
    largest: Float32 = np.maximum(values.max(axis=1), -values.min(axis=1))
    return largest


def covering(values: Float32, largest_level: float) -> Float32:
    """Smallest float16 scale at which the largest magnitude of each group is within the ladder."""
    return half_above(largest_magnitude(values) / np.float32(largest_level))
