"""Kinds of data and the options that each reads: an option that nothing reads is refused, never ignored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qcompiler.data.options import FLAGS, DataOptions
from qcompiler.errors import OptionError


@dataclass(frozen=True)
class Kind:
    """A kind of data.

    Attributes:
        name: as a message calls it.
        reads: fields of DataOptions that have an effect on it.
    """

    name: str
    reads: frozenset[str]

    def unread(self, options: DataOptions) -> frozenset[str]:
        """Return the fields that differ from their default although this kind does not read them."""
        return frozenset(changed(options)) - self.reads

    def but(self, *fields: str, name: str) -> Kind:
        """Return the case of this kind where these fields have no effect either."""
        return Kind(name, self.reads - set(fields))


_SAMPLES = frozenset({"batch", "limit"})
_TEXT = frozenset({"limit", "tokenizer", "length"})

ARRAYS = Kind("arrays of samples", _SAMPLES | {"columns"})
ONE_ARRAY = Kind("one array", _SAMPLES)
ROWS = Kind("rows of a dataset", _SAMPLES | {"columns"})
FEEDS = Kind("whole feeds, taken as they are", frozenset({"limit", "columns"}))
PICTURES = Kind("pictures", _SAMPLES | {field for field in FLAGS if field.startswith("image_")})
TEXT = Kind("windows of a text", _TEXT | {"batch"})
TEXTS = Kind("texts, a feed each", _TEXT | {"text_column"})
RANDOM = Kind("random data", _SAMPLES | {"length", "seed"})
OPENED = Kind("data that is open already", frozenset())


def changed(options: DataOptions) -> list[str]:
    """Return the fields that differ from their default, in their order."""
    return [name for name in FLAGS if getattr(options, name) != getattr(_DEFAULTS, name)]


def refuse_unread(options: DataOptions, kinds: Sequence[Kind]) -> None:
    """Refuse options that no source reads.

    Args:
        options: as the user gave them.
        kinds: the kind of every source that these options are for; at least one.

    Raises:
        OptionError: names the options, the kinds given, and what those read.
    """
    unread = frozenset.intersection(*(kind.unread(options) for kind in kinds))
    if not unread:
        return
    flags = ", ".join(FLAGS[name] for name in changed(options) if name in unread)
    names = " or ".join(dict.fromkeys(kind.name for kind in kinds))
    read = frozenset.union(*(kind.reads for kind in kinds))
    known = ", ".join(FLAGS[name] for name in FLAGS if name in read) or "no option"
    raise OptionError(
        f"{flags} cannot apply to {names}, expected only what is read there: {known}. "
        "Leave it out, or give data that reads it."
    )


_DEFAULTS = DataOptions()
