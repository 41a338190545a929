"""Groups of a matrix in blocks that fit the cache, worked on by as many threads as there are cores.

NumPy lets go of the interpreter inside its loops, so that threads help; blocks bound the temporaries and do not
touch each other, so that the result does not depend on how many threads there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")

BLOCK_WEIGHTS = 1 << 16
"""Weights of a block: 256 KiB of float32, so that a few temporaries stay in a core's second-level cache."""
NARROWEST = 64
"""Columns of a block at the least: 256 bytes of every row are read together."""


@dataclass(frozen=True)
class Block:
    """Whole groups of some columns; all groups of a block have the same number of rows.

    Attributes:
        groups: which groups, half-open.
        size: rows of each group.
        rows: which rows of the matrix.
        columns: which columns of the matrix.
    """

    groups: slice
    size: int
    rows: slice
    columns: slice

    def of(self, matrix: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The block of ``matrix [K, N]`` as a view ``[groups, size, columns]``."""
        part = matrix[self.rows, self.columns]
        return part.reshape(-1, self.size, part.shape[1])

    def of_rows(self, vector: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The block's part of ``vector [K]`` as ``[groups, size, 1]``."""
        return vector[self.rows].reshape(-1, self.size, 1)


def split(shape: tuple[int, ...], group: int | None) -> Iterator[Block]:
    """Cut a matrix of ``shape [K, N]`` into blocks; where ``group`` does not divide K the last group is short."""
    rows, columns = shape
    if rows == 0 or columns == 0:
        return
    size = rows if group is None else min(group, rows)
    whole = rows // size
    for first, last, height in ((0, whole, size), (whole, whole + 1, rows - whole * size)):
        if height == 0:
            continue
        width = min(columns, max(NARROWEST, BLOCK_WEIGHTS // height))
        deep = max(1, BLOCK_WEIGHTS // (height * width))
        for start in range(first, last, deep):
            stop = min(start + deep, last)
            begin = start * size
            covered = slice(begin, begin + (stop - start) * height)
            for left in range(0, columns, width):
                yield Block(slice(start, stop), height, covered, slice(left, min(left + width, columns)))


def for_each(blocks: Iterable[T], work: Callable[[T], None], *, threads: int | None = None) -> None:
    """Call ``work`` on every one of ``blocks``, which must not depend on each other."""
    waiting = list(blocks)
    workers = min(threads or cores(), len(waiting))
    if workers <= 1:
        for block in waiting:
            work(block)
        return
    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(work, waiting):
            pass


def split_columns(rows: int, columns: int) -> Iterator[slice]:
    """Cut the columns of ``[rows, columns]`` into blocks."""
    width = max(NARROWEST, BLOCK_WEIGHTS // max(rows, 1))
    for left in range(0, columns, width):
        yield slice(left, min(left + width, columns))


def cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def group_count(rows: int, group: int | None) -> int:
    """Groups along ``rows``, a short last one included."""
    return 1 if group is None else -(-rows // group)


def in_rows(block: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The same block with neighbouring columns beside each other in memory, as every loop here expects."""
    if block.strides[-1] == block.itemsize:
        return block
    return np.ascontiguousarray(block)
