"""Every error that qcompiler raises on purpose.

    QCompilerError                 one line for the user: what, where, what was expected, one remedy
    ├── InputError                 exit code 2: what was given cannot be used
    │   ├── ModelError             the model file is broken, hostile, or not ONNX
    │   ├── CalibrationError       calibration data is missing or does not fit the model
    │   ├── OptionError            unknown or impossible pass, option, target, node name
    │   └── OutputError            the output cannot be written
    ├── UnsupportedError           exit code 2: a valid request that this pass or target cannot serve
    └── VerificationError          exit code 1: the compiled model does not do what it must

Anything else that escapes is a defect of qcompiler.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QCompilerError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is one line with a remedy."""

    exit_code = 2


class InputError(QCompilerError):
    """What the user gave cannot be used."""


class ModelError(InputError):
    """The model is not readable, not valid ONNX, or refers to data outside its folder."""


class CalibrationError(InputError):
    """Calibration data is missing, does not fit the model's inputs, or gives NaN or infinity."""


class OptionError(InputError):
    """Unknown or impossible pass, option, target or node name."""


class OutputError(InputError):
    """The result cannot be written."""


class UnsupportedError(QCompilerError):
    """A valid request that the chosen pass or target cannot serve."""


class VerificationError(QCompilerError):
    """The compiled model failed a check; the message names the node and the figure."""

    exit_code = 1


NEAR = 0.6
"""Share of letters that a word and a suggestion must have in common, in order."""


def suggest(word: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of ``known``, or list them when none is near."""
    options = sorted(set(known))
    folded = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=NEAR)
    if near:
        return f" Did you mean {folded[near[0]]!r}?"
    shown = ", ".join(options[:12]) + (", ..." if len(options) > 12 else "")
    return f" Known: {shown}." if options else ""
