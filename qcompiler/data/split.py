"""Splitting data into what calibrates and what verifies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from qcompiler.data.feeds import Feed, FeedSource
from qcompiler.data.source import Feeds
from qcompiler.errors import OptionError


class Split(NamedTuple):
    """Data for calibration and data held out of it; unpacks into the two."""

    calibration: FeedSource
    held_out: FeedSource

    @property
    def shared(self) -> bool:
        """True when there was too little to split, so that verification sees the calibration data."""
        return self.calibration is self.held_out


def hold_out(source: FeedSource, *, every: int = 5) -> Split:
    """Hold every ``every``-th sample out (feed, where records are whole feeds or the model fixes its batch).

    Nothing is copied, and the same data gives the same split.  Of fewer than ``every`` the last one is held
    out; a single one cannot be split, and both parts are ``source``.
    """
    if every < 2:
        raise OptionError(f"every {every}th sample would be held out, expected at least every 2nd.")
    if not isinstance(source, Feeds):
        return _split_feeds(source, every)
    unit = source.batch if source.fixed_batch else 1
    groups = [source.rows[start : start + unit] for start in range(0, len(source.rows), unit)]
    if len(groups) < 2:
        return Split(source, source)
    every = min(every, len(groups))
    kept = [row for number, group in enumerate(groups) if not _is_held(number, every) for row in group]
    held = [row for number, group in enumerate(groups) if _is_held(number, every) for row in group]
    return Split(
        source.select(kept, f"{len(kept)} for calibration"),
        source.select(held, f"{len(held)} held out of calibration"),
    )


def _is_held(number: int, every: int) -> bool:
    return number % every == every - 1


def _split_feeds(source: FeedSource, every: int) -> Split:
    count = sum(1 for _ in source)
    if count < 2:
        return Split(source, source)
    every = min(every, count)
    return Split(_Part(source, every, held=False), _Part(source, every, held=True))


@dataclass(frozen=True)
class _Part:
    """Some feeds of another source, by their number."""

    whole: FeedSource
    every: int
    held: bool
    samples: int | None = None

    def __iter__(self) -> Iterator[Feed]:
        return (feed for number, feed in enumerate(self.whole) if _is_held(number, self.every) == self.held)

    @property
    def description(self) -> str:
        return f"{self.whole.description}; {'held out of' if self.held else 'for'} calibration"

    @property
    def sha256(self) -> str | None:
        return self.whole.sha256
