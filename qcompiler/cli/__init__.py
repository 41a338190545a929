"""The command line.  This module stays light: everything is imported when a command runs."""

from __future__ import annotations

import sys


def main() -> int:
    """Run ``qcompile`` with the arguments of the process and return its exit code."""
    from qcompiler.cli.entry import run

    code = run(sys.argv[1:])
    if code:
        sys.exit(code)
    return code
