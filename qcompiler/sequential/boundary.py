"""Activations at a boundary between segments: one file, mapped, a batch in memory at a time."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompiler.package.durable import write_synced
from qcompiler.package.write import cannot_write

Array = npt.NDArray[np.generic]
Feed = Mapping[str, Array]

_ALIGNMENT = 64


@dataclass(frozen=True)
class _Place:
    offset: int
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Boundary:
    """The arrays of every feed at one boundary, by name of the value; shapes may differ from feed to feed.

    Attributes:
        path: their bytes, one array behind another; the places are in ``path`` + ".json".
    """

    path: Path
    places: tuple[Mapping[str, _Place], ...]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Feed:
        """The arrays of one feed, read-only maps of the file."""
        return {
            name: np.memmap(self.path, np.dtype(place.dtype), "r", place.offset, place.shape)
            if np.prod(place.shape)
            else np.zeros(place.shape, np.dtype(place.dtype))
            for name, place in self.places[index].items()
        }

    def remove(self) -> None:
        """Delete the files."""
        _index(self.path).unlink(missing_ok=True)  # first: bytes without it count as none
        self.path.unlink(missing_ok=True)


def write_boundary(path: Path, feeds: Iterable[Feed]) -> Boundary:
    """Write the arrays of ``feeds`` as they come; complete, synced and in place, or not there at all.

    Raises:
        OutputError: the disk is full or the path cannot be written.
    """
    scratch = path.with_name(f"{path.name}.tmp")
    try:
        with scratch.open("wb") as stream:
            places = [{name: _append(stream, array) for name, array in feed.items()} for feed in feeds]
            stream.flush()
            os.fsync(stream.fileno())
        scratch.replace(path)
        write_synced(_index(path), json.dumps([_plain(feed) for feed in places]).encode())
    except OSError as error:
        raise cannot_write(path, error) from error
    return Boundary(path, tuple(places))


def read_boundary(path: Path) -> Boundary | None:
    """What was written to ``path`` by an earlier run, or None where that was not finished."""
    try:
        feeds = json.loads(_index(path).read_text())
        size = path.stat().st_size
    except (OSError, ValueError):
        return None
    places = tuple(
        {name: _Place(offset, dtype, tuple(shape)) for name, (offset, dtype, shape) in feed.items()}
        for feed in feeds
    )
    return Boundary(path, places) if size >= max(map(_end, places), default=0) else None


class FeedsBehind:
    """The user's feeds, each with its arrays at a boundary; iterated any number of times."""

    def __init__(self, feeds: Iterable[Feed], boundary: Boundary | None) -> None:
        self._feeds, self._boundary = feeds, boundary

    def __iter__(self) -> Iterator[Feed]:
        if self._boundary is None:
            yield from self._feeds
            return
        for index, feed in enumerate(self._feeds):
            yield {**feed, **self._boundary[index]}


def _append(stream: io.BufferedWriter, array: Array) -> _Place:
    stream.write(bytes(-stream.tell() % _ALIGNMENT))
    place = _Place(stream.tell(), array.dtype.str, array.shape)
    stream.write(np.ascontiguousarray(array).data)
    return place


def _plain(feed: Mapping[str, _Place]) -> Mapping[str, object]:
    return {name: (place.offset, place.dtype, place.shape) for name, place in feed.items()}


def _end(feed: Mapping[str, _Place]) -> int:
    return max(
        (
            place.offset + np.dtype(place.dtype).itemsize * int(np.prod(place.shape))
            for place in feed.values()
        ),
        default=0,
    )


def _index(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")
