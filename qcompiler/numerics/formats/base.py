"""What a storage format is: a ladder of levels that a scale and an offset per group place among the weights.

    w[k, n] ~ scale[g, n] * level(code[k, n]) - offset[g, n],   g = k // group

Integers, k-quants, NF4, FP4, FP8 and ternary are all of this form; they differ in the ladder and in how scale and
offset are stored themselves.  A solver therefore needs of a format only how to fit a grid to weights and how to
round to it, and every solver works with every format.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from qcompiler.numerics.formats.blocks import Block, for_each, in_rows, split

Float32 = npt.NDArray[np.float32]
Codes = npt.NDArray[np.uint8]


class Search(enum.StrEnum):
    """How scale and offset of a group are chosen from its weights."""

    MINMAX = "minmax"
    """From the extremes: round-to-nearest."""
    MSE = "mse"
    """Clipped to least squared error, weighted by importance where it is given."""
    HQQ = "hqq"
    """Half-quadratic optimization (Badri and Shaji, 2023)."""
    K_QUANT = "k_quant"
    """The weighted search of llama.cpp's k-quants."""


@dataclass(frozen=True)
class Grid:
    """Scale and offset of every group, with exactly the values that their stored form gives back.

    Attributes:
        scale: ``[G, N]`` float32, G = ceil(K / group).
        offset: ``[G, N]`` float32, or None where the ladder needs none.
        zero_point: ``[G, N]`` uint8 codes of zero where ``offset`` is ``scale * zero_point``, else None.
        parts: what is stored in place of ``scale`` and ``offset`` where they are quantized themselves, by the names
            that the format documents; empty where they are stored as they are.  Along axis 0 the parts of
            consecutive spans (``Format.span``) put together are the parts of the whole.
    """

    scale: Float32
    offset: Float32 | None = None
    zero_point: npt.NDArray[np.uint8] | None = None
    parts: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)


class Format(abc.ABC):
    """One storage format; subclasses are frozen dataclasses.  Matrices are ``[K, N]``, groups run along K."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The field's word, as reports show it: ``int4``, ``nf4``, ``q4_k``."""

    @property
    @abc.abstractmethod
    def group(self) -> int | None:
        """Weights along K that share a scale; None for all of a column (per channel)."""

    @property
    @abc.abstractmethod
    def code_bits(self) -> int:
        """Bits of one code, without scales."""

    @property
    @abc.abstractmethod
    def levels(self) -> Float32:
        """``[L]`` float32: the value of every code at scale 1 and offset 0."""

    @property
    def span(self) -> int | None:
        """Rows whose grid can be fitted without the others; None where scales are quantized across the matrix."""
        return self.group

    @abc.abstractmethod
    def searches(self) -> Mapping[Search, str]:
        """Every search with "" where it applies, else the reason why it makes no sense here."""

    @abc.abstractmethod
    def fit(
        self, weights: Float32, *, search: Search = Search.MINMAX, importance: Float32 | None = None
    ) -> Grid:
        """Choose scale and offset of every group of ``weights [K, N]``; ``importance [K]`` weighs the rows."""

    @abc.abstractmethod
    def bits_per_weight(self, rows: int, columns: int) -> float:
        """Bits a weight of a ``[rows, columns]`` matrix, scales, zero points and padding included."""

    @abc.abstractmethod
    def codes_of(self, values: Float32, scale: Float32, offset: Float32 | None) -> Codes:
        """Nearest codes of ``values``; ``scale`` and ``offset`` broadcast against it."""

    def values_of(self, codes: Codes, scale: Float32, offset: Float32 | None) -> Float32:
        """What ``codes`` stand for; ``scale`` and ``offset`` broadcast against them."""
        values = self.levels[codes] * scale
        return values if offset is None else values - offset

    def encode(self, weights: Float32, grid: Grid) -> Codes:
        """Round ``weights [K, N]`` to ``grid``; block by block, so that only the codes take memory."""
        codes = np.empty(weights.shape, np.uint8)

        def work(block: Block) -> None:
            block.of(codes)[...] = self.codes_of(in_rows(block.of(weights)), *of_block(grid, block))

        for_each(split(weights.shape, self.group), work)
        return codes

    def decode(self, codes: Codes, grid: Grid) -> Float32:
        """The float32 matrix ``[K, N]`` that ``codes`` and ``grid`` stand for."""
        weights = np.empty(codes.shape, np.float32)

        def work(block: Block) -> None:
            block.of(weights)[...] = self.values_of(block.of(codes), *of_block(grid, block))

        for_each(split(codes.shape, self.group), work)
        return weights


def of_block(grid: Grid, block: Block) -> tuple[Float32, Float32 | None]:
    """Scale and offset of a block's groups, ``[groups, 1, columns]``."""
    scale = grid.scale[block.groups, None, block.columns]
    return scale, None if grid.offset is None else grid.offset[block.groups, None, block.columns]


def per_row(grid: Grid, rows: int, group: int | None) -> tuple[Float32, Float32 | None]:
    """Scale and offset repeated for every row: ``[K, N]``, or ``[1, N]`` where there is one group."""
    if group is None or grid.scale.shape[0] == 1:
        return grid.scale, grid.offset
    index = np.arange(rows) // group
    return grid.scale[index], None if grid.offset is None else grid.offset[index]
