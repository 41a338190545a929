"""The reason another library gave, fit for one line of ours."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type when it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
