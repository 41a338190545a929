"""The feeds of a table: which records, in which batches, checked against the model."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from qcompiler.data.feeds import Feed, InputSpec
from qcompiler.data.kinds import Kind
from qcompiler.data.options import DataOptions
from qcompiler.data.table import Table
from qcompiler.data.validation import FeedChecker
from qcompiler.errors import CalibrationError, OptionError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Feeds:
    """A :class:`qcompiler.data.feeds.FeedSource` over some records of a table.

    Attributes:
        table: the records.
        kind: what they are, and which options they follow.
        checker: makes them fit the model.
        rows: the records used, in order.
        batch: records per feed; the last feed may be short.
        description: see FeedSource.
        hash_content: returns the hash of the whole data, which every selection of it shares.
        fixed_batch: whether the model fixes ``batch``, so that feeds cannot be short.
    """

    table: Table
    kind: Kind
    checker: FeedChecker
    rows: Sequence[int]
    batch: int
    description: str
    hash_content: Callable[[], str | None]
    fixed_batch: bool = False

    def __iter__(self) -> Iterator[Feed]:
        for start in range(0, len(self.rows), self.batch):
            rows = self.rows[start : start + self.batch]
            yield self.checker.check(self.table.read(rows), [self.table.label(row) for row in rows])

    def __len__(self) -> int:
        """Return the number of feeds."""
        return -(-len(self.rows) // self.batch)

    @property
    def sha256(self) -> str | None:
        return self.hash_content()

    @property
    def samples(self) -> int | None:
        return len(self.rows) if self.table.stacked else None

    def select(self, rows: Sequence[int], remark: str) -> Feeds:
        """Return the same data restricted to ``rows``; ``remark`` joins the description."""
        return dataclasses.replace(self, rows=rows, description=f"{self.description}; {remark}")


def make_feeds(
    table: Table,
    specs: Sequence[InputSpec],
    options: DataOptions,
    kind: Kind,
    *,
    description: str,
    hash_content: Callable[[], str | None],
) -> Feeds:
    """Choose records and batches, and check the first feed, so that bad data fails before anything runs.

    Raises:
        CalibrationError: no records, fewer than the model's fixed batch, or a first feed that does not fit.
        OptionError: --calib-batch is not what the model fixes; --calib-column names no input.
    """
    if len(table) == 0:
        raise CalibrationError(f"{description} holds no samples. Give at least one.")
    rows = _spread(len(table), options.limit)
    fixed = _fixed_batch(specs) if table.stacked else None
    batch = _batch(options, fixed) if table.stacked else 1
    if fixed is not None:
        rows = _whole_batches(rows, fixed, description)
    checker = FeedChecker(specs, options.columns if "columns" in kind.reads else {})
    feeds = Feeds(table, kind, checker, rows, batch, description, hash_content, fixed is not None)
    next(iter(feeds))
    return dataclasses.replace(feeds, description=_describe(feeds, len(table)))


def _spread(count: int, limit: int | None) -> Sequence[int]:
    """Return ``limit`` of ``count`` indices at even distances, or all."""
    if limit is None or limit >= count:
        return range(count)
    return [index * count // limit for index in range(limit)]


def _fixed_batch(specs: Sequence[InputSpec]) -> int | None:
    fixed = {spec.shape[0] for spec in specs if spec.shape and isinstance(spec.shape[0], int)}
    if len(fixed) <= 1:
        return int(fixed.pop()) if fixed else None
    raise CalibrationError(
        f"the model's inputs fix different first dimensions ({'; '.join(map(str, specs))}), so samples cannot be "
        "batched. Give a folder of .npz files, one whole feed each."
    )


def _batch(options: DataOptions, fixed: int | None) -> int:
    if fixed is None:
        return options.batch
    if options.batch not in (1, fixed):
        raise OptionError(
            f"--calib-batch is {options.batch}, but the model fixes its batch at {fixed}. Leave it out."
        )
    return fixed


def _whole_batches(rows: Sequence[int], batch: int, description: str) -> Sequence[int]:
    if batch == 0 or len(rows) < batch:
        raise CalibrationError(
            f"{description} gives {len(rows)} samples, but the model fixes its batch at {batch}. Give more."
        )
    short = len(rows) % batch
    if short:
        logger.warning("the model fixes its batch at %d: the last %d samples are dropped", batch, short)
    return rows[: len(rows) - short]


def _describe(feeds: Feeds, available: int) -> str:
    used = len(feeds.rows)
    unit = "samples" if feeds.table.stacked else "feeds"
    parts = [f"{feeds.description}: {used} {unit}" + (f" of {available}" if used < available else "")]
    if feeds.table.stacked:
        parts.append(f"batch {feeds.batch}")
    if feeds.checker.made:
        past = [name for name in feeds.checker.made if "past" in name]
        others = [name for name in feeds.checker.made if name not in past]
        parts.append(f"made: {', '.join([*others, f'an empty cache ({len(past)} inputs)'])}")
    if feeds.checker.unused:
        parts.append(f"not used: {', '.join(feeds.checker.unused)}")
    return "; ".join(parts)
