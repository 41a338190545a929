"""Being told to end: what was begun is cleaned up, as after Ctrl-C, instead of leaving temporary folders."""

from __future__ import annotations

import signal
from types import FrameType


class TerminatedError(BaseException):
    """SIGTERM or SIGHUP; no Exception, so that nothing on the way takes it for a failure of its own."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def raise_on_termination() -> None:
    """Make SIGTERM, and SIGHUP unless it is ignored (``nohup``), raise :class:`TerminatedError`."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def _raise(number: int, frame: FrameType | None) -> None:
    del frame
    signal.signal(number, signal.SIG_IGN)  # once: a second one must not interrupt the cleaning up
    raise TerminatedError(number)
