"""The command line.  This module stays light: everything is imported when a command runs."""

from __future__ import annotations

import sys


def main() -> int:
    """Run ``qcompile`` with the arguments of the process and return its exit code."""
    from qcompiler.cli.entry import run
    from qcompiler.cli.signals import raise_on_termination

    raise_on_termination()
    code = run(sys.argv[1:])
    if code:
        sys.exit(code)
    return code
