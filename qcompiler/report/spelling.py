"""Passes and targets as a user would write them: without the options that are the default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from qcompiler.errors import OptionError
from qcompiler.pipeline.options import Scalar, shortest


class Options(Protocol):
    """A pass or target with every option as resolved."""

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> dict[str, Scalar]: ...


def needed(item: Options, find: Callable[[str], type]) -> Mapping[str, Scalar]:
    """The options that must be written; all of what has no registered name, or is of another version."""
    try:
        return shortest(find(item.name), item.options, owner=item.name)
    except (OptionError, ImportError):
        return item.options


def settings(item: Options, find: Callable[[str], type]) -> tuple[str, ...]:
    """Those options as ``key=value``."""
    return tuple(
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in needed(item, find).items()
    )


def spelled(item: Options, find: Callable[[str], type]) -> str:
    """``name:key=value:...``."""
    return ":".join((item.name, *settings(item, find)))
