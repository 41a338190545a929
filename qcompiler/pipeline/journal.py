"""Remembering what a pass has solved, so that nothing is solved twice.

A pass hands every expensive result over as named arrays.  Within one compile that makes a rebuild with fewer nodes
cheap; with a folder behind it, a run that was killed goes on where it stopped and gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import logging
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from qcompiler.package.durable import write_synced
from qcompiler.package.write import cannot_write

logger = logging.getLogger(__name__)

Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass
class Journal:
    """Results by key, in memory."""

    _known: dict[str, Arrays] = field(default_factory=dict)

    def recall(self, key: str, solve: Callable[[], Arrays]) -> Arrays:
        """What was solved under ``key`` before, else what ``solve`` returns.

        Statistics may be missing where the answer is known: touch them inside ``solve`` only.
        """
        if key not in self._known:
            self._known[key] = solve()
        return self._known[key]


class NoJournal(Journal):
    """Remembers nothing: for a compile that is neither resumed nor built twice."""

    def recall(self, key: str, solve: Callable[[], Arrays]) -> Arrays:
        del key
        return solve()


class FolderJournal(Journal):
    """Results by key, a file each: they take no memory, and outlive a process that is killed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def recall(self, key: str, solve: Callable[[], Arrays]) -> Arrays:
        path = self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:40]}.npz"
        known = _read(path)
        if known is not None:
            return known
        solved = solve()
        strange = [name for name, array in solved.items() if np.dtype(array.dtype.str) != array.dtype]
        if strange:
            raise AssertionError(f"{key}: {strange[0]!r} is not of one of NumPy's own types")
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **solved)
        try:
            write_synced(path, content.getbuffer())
        except OSError as error:
            raise cannot_write(path, error) from error
        return solved


class JournalOf(Journal):
    """The part of a journal that belongs to one of several passes, which may be of the same name."""

    def __init__(self, journal: Journal, owner: str) -> None:
        super().__init__()
        self._journal, self._owner = journal, owner

    def recall(self, key: str, solve: Callable[[], Arrays]) -> Arrays:
        return self._journal.recall(f"{self._owner}/{key}", solve)


def _read(path: Path) -> Arrays | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        logger.warning("%s cannot be read (%s): solved again", path, error)
        return None
