"""typer's complaints about arguments, in the words of our own errors."""

from __future__ import annotations

from typer import TyperException


def usage_message(error: TyperException) -> str:
    """One line: what is wrong with the arguments, and what to do."""
    message = error.format_message()
    near = getattr(error, "possibilities", None)
    option = getattr(error, "option_name", None)
    if message.startswith("No such option") and option is not None:
        message = f"there is no option {option!r}."
        if near:
            message += f" Did you mean {near[0]!r}?"
    message = message[:1].lower() + message[1:]
    return f"{message.rstrip('.')}. See {_command_path(error)} --help." if not near else message


def _command_path(error: TyperException) -> str:
    return getattr(getattr(error, "ctx", None), "command_path", "qcompile")
