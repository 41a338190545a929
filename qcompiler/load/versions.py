"""Which versions of the format and of the standard operators are understood."""

from __future__ import annotations

import onnx

from qcompiler.errors import ModelError, UnsupportedError

OLDEST_IR_VERSION = 3
OLDEST_OPSET = 7
NEWEST_OPSET = 25


def check_versions(where: str, ir_version: int, opset: int | None) -> None:
    """Refuse what is older or newer than what the compiler was tried with.

    Args:
        where: the words an error starts with.
        ir_version: version of the file format.
        opset: version of the standard operators; None when the model imports none.

    Raises:
        ModelError: ``ir_version`` out of range.
        UnsupportedError: ``opset`` out of range.
    """
    if not OLDEST_IR_VERSION <= ir_version <= onnx.IR_VERSION:
        raise ModelError(
            f"{where}: ir_version {ir_version} is not supported (known: {OLDEST_IR_VERSION} to "
            f"{onnx.IR_VERSION}); export the model again with a current exporter, or update onnx"
        )
    if opset is not None and not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise UnsupportedError(
            f"{where}: opset {opset} is not supported (known: {OLDEST_OPSET} to {NEWEST_OPSET}); "
            f"export the model with an opset in that range"
        )
