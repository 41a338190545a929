"""Logging of a command, on stderr."""

from __future__ import annotations

import logging
import sys


class _StderrHandler(logging.Handler):
    """Writes to whatever ``sys.stderr`` is at that moment: a progress display replaces it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(f"{record.levelname.lower()}: {record.getMessage()}", file=sys.stderr)


def set_up_logging(*, verbose: int, quiet: bool) -> None:
    """Warnings by default, errors alone when quiet, more with each ``-v``."""
    level = logging.ERROR if quiet else max(logging.WARNING - 10 * verbose, logging.DEBUG)
    logger = logging.getLogger("qcompiler")
    logger.setLevel(level)
    logger.handlers = [_StderrHandler()]
    logger.propagate = False
    # Warnings of libraries mean nothing to the user of a command, until something must be found out.
    logging.captureWarnings(True)
    shown = level <= logging.INFO
    logging.getLogger("py.warnings").handlers = [_StderrHandler() if shown else logging.NullHandler()]


def is_quiet() -> bool:
    """Whether the user asked for errors only."""
    return not logging.getLogger("qcompiler").isEnabledFor(logging.WARNING)
