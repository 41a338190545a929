"""Options of passes and targets: a frozen dataclass is both the thing and its options.

A field declared with :func:`option` carries its help text and bounds; :func:`build` makes an instance
from the strings of a command line (``alpha=0.6``) or the values of a recipe, and refuses everything it
does not know.  Nothing is ignored.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from qcompiler.errors import OptionError, suggest

T = TypeVar("T")
Scalar = str | int | float | bool | None

_KINDS = {"int": "a whole number", "float": "a number", "str": "a word"}
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class OptionInfo:
    """One option as ``qcompile passes`` shows it."""

    name: str
    type: str
    default: Scalar
    help: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


def option(default: T, help: str, *, minimum: float | None = None, maximum: float | None = None) -> T:
    """Declare a dataclass field that a user can set; bounds are inclusive."""
    metadata = {"help": help, "minimum": minimum, "maximum": maximum}
    return dataclasses.field(default=default, metadata=metadata)


def describe(kind: type[Any]) -> list[OptionInfo]:
    """List the options of a dataclass in the order of its fields; those that it fixes (``init=False``) are none."""
    hints = typing.get_type_hints(kind)
    return [_describe_field(field, hints[field.name]) for field in dataclasses.fields(kind) if field.init]


def build(kind: type[T], given: Mapping[str, Scalar], *, owner: str) -> T:
    """Make an instance of ``kind`` from strings or plain values.

    Raises:
        OptionError: an unknown name, a value of the wrong type, or one out of bounds.
    """
    known = {info.name: info for info in describe(kind)}
    hints = typing.get_type_hints(kind)
    values: dict[str, object] = {}
    for name, text in given.items():
        if name not in known:
            raise OptionError(f"{owner} has no option {name!r}.{suggest(name, known)}")
        values[name] = _convert(text, hints[name], known[name], owner)
    try:
        return kind(**values)
    except ValueError as error:  # a combination that __post_init__ refuses
        raise OptionError(f"{owner}: {error}") from error


def spelled(instance: object) -> dict[str, Scalar]:
    """Return every option with its resolved value, as the manifest records it."""
    fields = dataclasses.fields(cast(Any, instance))
    return {field.name: _plain(getattr(instance, field.name)) for field in fields}


def shortest(kind: type[Any], options: Mapping[str, Scalar], *, owner: str) -> dict[str, Scalar]:
    """Those of ``options`` that must be written to get all of them: the others are what ``kind`` chooses itself.

    Args:
        kind: a dataclass of options.
        options: of an instance, as :func:`spelled` gives them.
        owner: for messages, as in :func:`build`.
    """
    needed = {info.name: options[info.name] for info in describe(kind) if info.name in options}
    for name in list(needed):
        without = {other: value for other, value in needed.items() if other != name}
        try:
            same = spelled(build(kind, without, owner=owner)) == dict(options)
        except OptionError:
            same = False
        if same:
            needed = without
    return needed


def _describe_field(field: dataclasses.Field[Any], hint: Any) -> OptionInfo:
    kind, _ = _strip_optional(hint)
    return OptionInfo(
        name=field.name,
        type=_type_name(kind),
        default=_plain(field.default),
        help=field.metadata.get("help", ""),
        choices=_choices(kind),
        minimum=field.metadata.get("minimum"),
        maximum=field.metadata.get("maximum"),
    )


def _plain(value: object) -> Scalar:
    return value.value if isinstance(value, enum.Enum) else cast(Scalar, value)


def _strip_optional(hint: Any) -> tuple[Any, bool]:
    """``float | None`` -> (float, True)."""
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        if len(members) == 1:
            return members[0], True
    return hint, False


def _type_name(kind: Any) -> str:
    return "choice" if _choices(kind) else getattr(kind, "__name__", str(kind))


def _choices(kind: Any) -> tuple[str, ...]:
    if typing.get_origin(kind) is typing.Literal:
        return tuple(str(choice) for choice in typing.get_args(kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return tuple(str(member.value) for member in kind)
    return ()


def _convert(value: Scalar, hint: Any, info: OptionInfo, owner: str) -> object:
    kind, optional = _strip_optional(hint)
    if optional and (value is None or str(value).lower() == "none"):
        return None
    where = f"{owner}: option {info.name!r}"
    if info.choices:
        if str(value) not in info.choices:
            raise OptionError(f"{where} is {value!r}.{suggest(str(value), info.choices)}")
        return kind(str(value)) if isinstance(kind, type) else str(value)
    if kind is bool:
        return _to_bool(value, where)
    if value is None:
        raise OptionError(f"{where} is empty, expected {_KINDS.get(info.type, info.type)}.")
    try:
        converted = kind(str(value)) if kind in (int, float) else kind(value)
    except ValueError as error:
        raise OptionError(f"{where} is {value!r}, expected {_KINDS.get(info.type, info.type)}.") from error
    if isinstance(converted, float) and not math.isfinite(converted):
        raise OptionError(f"{where} is {value!r}, expected a finite number.")
    return _check_bounds(converted, info, where)


def _to_bool(value: Scalar, where: str) -> bool:
    text = str(value).lower()
    if text not in _TRUE | _FALSE:
        raise OptionError(f"{where} is {value!r}, expected true or false.")
    return text in _TRUE


def _check_bounds(value: object, info: OptionInfo, where: str) -> object:
    if not isinstance(value, int | float):
        return value
    low, high = info.minimum, info.maximum
    if (low is not None and value < low) or (high is not None and value > high):
        raise OptionError(f"{where} is {value}, expected {_interval(low, high)}.")
    return value


def _interval(low: float | None, high: float | None) -> str:
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"between {low} and {high}"
