"""``qcompile MODEL --passes ...`` stands for ``qcompile compile MODEL --passes ...``."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextvars import ContextVar

from qcompiler.errors import OptionError, suggest

COMPILE = "compile"
_OF_THE_PROGRAM = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})


typed: ContextVar[Sequence[str]] = ContextVar("typed", default=())
"""The arguments of the command that runs."""


def typed_words() -> tuple[str, ...]:
    """The words of the command that runs, without its name where that is ``compile``."""
    words = tuple(typed.get())
    return words[1:] if words[:1] == (COMPILE,) else words


def typed_command() -> str:
    """The command that runs, as a shell takes it."""
    return shlex.join(["qcompile", *typed.get()])


def with_command(arguments: Sequence[str], commands: Sequence[str]) -> list[str]:
    """Return ``arguments`` with the command they leave out.

    Raises:
        OptionError: the first word is neither a command nor a file.
    """
    if not arguments:
        return ["--help"]
    first = arguments[0]
    if first in commands or first in _OF_THE_PROGRAM:
        return list(arguments)
    if not first.startswith("-") and not _looks_like_a_path(first):
        raise OptionError(f"there is no command or file {first!r}.{suggest(first, commands)}")
    return [COMPILE, *arguments]


def _looks_like_a_path(word: str) -> bool:
    return os.path.exists(word) or "." in word or os.sep in word
