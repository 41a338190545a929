"""A folder of .npz files: each is one feed, taken as it is, in the order of their names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

from qcompiler.data.feeds import Array, InputSpec
from qcompiler.data.hashing import hash_files
from qcompiler.data.kinds import FEEDS
from qcompiler.data.npz import read_npz
from qcompiler.data.options import DataOptions
from qcompiler.data.source import Feeds, make_feeds
from qcompiler.data.table import FeedTable


class NpzFolder(Sequence[dict[str, Array]]):
    """The files' arrays, read when asked for."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, index: int) -> dict[str, Array]: ...
    @overload
    def __getitem__(self, index: slice) -> NpzFolder: ...
    def __getitem__(self, index: int | slice) -> dict[str, Array] | NpzFolder:
        return NpzFolder(self.paths[index]) if isinstance(index, slice) else read_npz(self.paths[index])


def open_npz_folder(
    folder: Path, paths: Sequence[Path], inputs: Sequence[InputSpec], options: DataOptions
) -> Feeds:
    """Feeds of ``paths``, which lie in ``folder``."""
    table = FeedTable(NpzFolder(paths), lambda row: str(paths[row]))
    description = f"{folder} (a .npz per feed)"
    return make_feeds(
        table, inputs, options, FEEDS, description=description, hash_content=hash_files(paths, folder)
    )
