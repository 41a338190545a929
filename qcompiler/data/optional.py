"""Packages that only some kinds of data need."""

from __future__ import annotations

import importlib
from types import ModuleType

from qcompiler.errors import CalibrationError


def load_package(module: str, *, purpose: str) -> ModuleType:
    """Import an optional module when it is needed.

    Raises:
        CalibrationError: it is not installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = {"PIL": "pillow"}.get(module.partition(".")[0], module.partition(".")[0])
        raise CalibrationError(
            f"{package} is needed {purpose}. Run: pip install 'qcompiler[data]'"
        ) from error
