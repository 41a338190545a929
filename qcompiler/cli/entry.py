"""From arguments to an exit code: every failure becomes one line on stderr.

| code | meaning |
|---|---|
| 0 | done |
| 1 | verification failed: the compiled model does not do what it must |
| 2 | bad input or configuration |
| 70 | a defect of qcompiler |
| 130 | interrupted |
| 141 | nobody reads the output any more (a closed pipe) |
| 143 | told to end: 128 and the number of the signal |
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

from typer import Abort, TyperException

from qcompiler.cli.app import app
from qcompiler.cli.arguments import typed, with_command
from qcompiler.cli.command import ClosedPipeError
from qcompiler.cli.signals import TerminatedError
from qcompiler.cli.usage import usage_message
from qcompiler.errors import QCompilerError

BAD_INPUT, DEFECT, INTERRUPTED, CLOSED_PIPE = 2, 70, 130, 141
_OUT_OF_MEMORY = "out of memory; use fewer or smaller samples (--calib-samples, --calib-batch)."


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    debug = "--debug" in arguments
    typed.set(tuple(arguments))
    try:
        code = app(with_command(arguments, list(app_commands())), prog_name="qcompile", standalone_mode=False)
        sys.stdout.flush()
        return _fail("interrupted.", INTERRUPTED) if code == INTERRUPTED else int(code or 0)
    except (ClosedPipeError, BrokenPipeError, SystemExit):  # typer and rich end the process for a closed pipe
        return _closed_pipe()
    except (KeyboardInterrupt, Abort):
        return _fail("interrupted.", INTERRUPTED)
    except TerminatedError as error:
        return _fail(f"ended by {error}.", error.exit_code)
    except TyperException as error:
        return _fail(usage_message(error), BAD_INPUT)
    except QCompilerError as error:
        return _fail(str(error), error.exit_code, debug=debug)
    except MemoryError:
        return _fail(_OUT_OF_MEMORY, BAD_INPUT, debug=debug)
    except Exception as error:
        remedy = "" if debug else " Run it again with --debug and report what it prints."
        return _fail(f"{type(error).__name__}: {error}.{remedy}", DEFECT, kind="internal error", debug=debug)


def app_commands() -> list[str]:
    """The names of all commands."""
    return [str(command.name) for command in app.registered_commands]


def _fail(message: str, code: int, *, kind: str = "error", debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    print(f"{kind}: {' '.join(message.split())}", file=sys.stderr)
    return code


def _closed_pipe() -> int:
    """Send what is still buffered nowhere, so that the interpreter does not complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return CLOSED_PIPE
