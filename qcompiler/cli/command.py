"""A function as a command: groups of options, and what every command takes.

A parameter whose type is a dataclass stands for one option per field, so that commands can share groups of
options.  Every command also takes ``-v``, ``-q`` and ``--debug``.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_type_hints

import typer

from qcompiler.cli.logs import set_up_logging


class ClosedPipeError(Exception):
    """Nobody reads the output; not an OSError, because typer would end the process for one."""


@dataclass(frozen=True)
class SharedOptions:
    """What every command takes; ``debug`` is read by the entry point, before arguments are parsed."""

    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Log more; twice: everything.")
    ] = 0
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False


def command(function: Callable[..., None]) -> Callable[..., None]:
    """Return ``function`` with its groups spelled out, logging set up, and its output flushed."""
    own = list(inspect.signature(function, eval_str=True).parameters.values())
    groups = {item.name: item.annotation for item in own if dataclasses.is_dataclass(item.annotation)}

    @functools.wraps(function)
    def wrapped(**values: Any) -> None:
        shared = _take(SharedOptions, values)
        set_up_logging(verbose=shared.verbose, quiet=shared.quiet)
        made = {name: _take(kind, values) for name, kind in groups.items()}
        try:
            function(**values, **made)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise ClosedPipeError from error

    parameters = [part for item in own for part in _spelled_out(item)]
    parameters += _fields(SharedOptions)
    wrapped.__dict__["__signature__"] = inspect.Signature(parameters)
    wrapped.__annotations__ = {item.name: item.annotation for item in parameters}
    return wrapped


def _spelled_out(item: inspect.Parameter) -> list[inspect.Parameter]:
    if dataclasses.is_dataclass(item.annotation):
        return _fields(item.annotation)
    return [item.replace(kind=inspect.Parameter.KEYWORD_ONLY)]


def _fields(kind: Any) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(field.name, keyword, default=field.default, annotation=hints[field.name])
        for field in dataclasses.fields(kind)
    ]


def _take(kind: Any, values: dict[str, Any]) -> Any:
    """Make a group out of the values of its fields, which are removed from ``values``."""
    return kind(**{field.name: values.pop(field.name) for field in dataclasses.fields(kind)})
