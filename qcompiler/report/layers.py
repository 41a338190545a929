"""Many outputs of one kind, such as a decoder's cache, in one line for all layers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar

FEW = 3
"""Up to so many outputs of one kind are listed one by one."""

_NUMBER = re.compile(r"(?<![A-Za-z0-9])\d+(?![A-Za-z0-9])")


class Compared(Protocol):
    """The figures of one output."""

    @property
    def value(self) -> str: ...
    @property
    def sqnr_db(self) -> float: ...
    @property
    def exact_share(self) -> float: ...
    @property
    def is_float(self) -> bool: ...


Item = TypeVar("Item", bound=Compared)


def by_layer(outputs: Iterable[Item]) -> list[tuple[str, Item]]:
    """What to print of one comparison: a name, and an output's figures; the worst where only a number differs.

    ``present.0.key`` to ``present.7.key`` become ``present.*.key, worst of 8``.  The order is that of the first ones.
    """
    kinds: dict[str, list[Item]] = {}
    for item in outputs:
        kinds.setdefault(_NUMBER.sub("*", item.value), []).append(item)
    rows: list[tuple[str, Item]] = []
    for pattern, members in kinds.items():
        if len(members) <= FEW:
            rows += [(item.value, item) for item in members]
        else:
            rows.append((f"{pattern}, worst of {len(members)}", min(members, key=_agreement)))
    return rows


def _agreement(item: Compared) -> float:
    """Higher is closer; values that are no floats compare by their share of equal elements."""
    return item.sqnr_db if item.is_float else item.exact_share
