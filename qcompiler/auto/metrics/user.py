"""A metric of the user's own: ``--metric module:function`` or ``--metric metric.py:function``.

    def word_accuracy(session, data) -> float:
        right = [decode(session.run(feed)) == text for feed, text in zip(data, data.extras["text"])]
        return sum(right) / len(right)

``session.run(feed)`` takes one array per input and gives a dict of outputs; ``data`` is iterated for feeds, and
``data.extras`` holds the other arrays of the metric's data (labels, scores), a row a sample.  Larger is better and a
drop is a difference, unless the function says otherwise by attributes:

    word_error.higher_is_better = False
    word_error.relative = True            # a drop is a share of the float model's value
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import math
import numbers
import sys
import traceback
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from qcompiler.errors import OptionError, suggest

UserFunction = Callable[[Any, Any], Any]


def load_function(words: str) -> UserFunction:
    """The function that ``module:function`` or ``path.py:function`` names.

    Raises:
        OptionError: there is no such module or function, importing it fails, or it cannot take two arguments.
    """
    place, _, name = words.rpartition(":")
    if not place or not name:
        raise OptionError(f"metric {words!r} is not of the form module:function or file.py:function.")
    module = _from_file(Path(place), words) if place.endswith(".py") else _imported(place, words)
    function = getattr(module, name, None)
    if function is None:
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise OptionError(f"metric {words!r}: {place} has no function {name!r}.{suggest(name, known)}")
    if not callable(function):
        raise OptionError(
            f"metric {words!r} is of type {type(function).__name__}, expected a function of (session, data)."
        )
    _require_two(function, words)
    checked: UserFunction = function
    return checked


def call(function: UserFunction, words: str, session: object, data: object) -> float:
    """What the user's function returns, as a finite number.

    Raises:
        OptionError: it raises, or returns anything else; the message names the line.
    """
    try:
        found = function(session, data)
    except (Exception, SystemExit) as error:  # whatever the user's code raises becomes one line
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}, line {where.lineno}"
        raise OptionError(f"metric {words!r} failed: {_first_line(error)} ({place}); mend it.") from error
    value = found.item() if isinstance(found, np.ndarray | np.generic) and found.size == 1 else found
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise OptionError(f"metric {words!r} returned {_shown(found)}, expected one number; return a float.")
    if not math.isfinite(value):
        raise OptionError(
            f"metric {words!r} returned {value}, expected a finite number; let it return its worst value instead."
        )
    return float(value)


def code_digest(function: UserFunction | None) -> str | None:
    """What tells a function from one that was changed: the bytes of its file; never the same where there is none."""
    if function is None:
        return None
    try:
        return hashlib.sha256(Path(inspect.getfile(function)).read_bytes()).hexdigest()
    except (OSError, TypeError):
        return uuid.uuid4().hex


def _imported(name: str, words: str) -> ModuleType:
    with _here(), _one_line(words, name):
        return importlib.import_module(name)


def _from_file(path: Path, words: str) -> ModuleType:
    if not path.is_file():
        raise OptionError(f"metric {words!r}: {path} is no file; check the path.")
    spec = importlib.util.spec_from_file_location(f"qcompiler_metric_{path.stem}", path)
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    with _here(path.resolve().parent), _one_line(words, str(path)):
        spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _here(folder: Path | None = None) -> Iterator[None]:
    """Let modules of ``folder`` (the current one) be imported: ``python`` itself does so, a console script does not."""
    place = str(folder or Path.cwd())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(place)


@contextlib.contextmanager
def _one_line(words: str, name: str) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:  # importing runs the user's code
        raise OptionError(
            f"metric {words!r}: importing {name} failed: {_first_line(error)}; mend it."
        ) from error


def _require_two(function: UserFunction, words: str) -> None:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        raise OptionError(
            f"metric {words!r} cannot be called with two arguments ({error}), expected function(session, data)."
        ) from error
    except ValueError:  # a builtin without a signature: the call will tell
        return


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _shown(value: object) -> str:
    shape = list(value.shape) if isinstance(value, np.ndarray) else ""
    return "nothing" if value is None else f"a {type(value).__name__}{shape}"
