"""Results too large to hold: appended to a scratch file, and mapped back while somebody reads them.

A pass over a model of many gigabytes makes codes for every weight, and lowering packs them again.  Within
``spooling(folder)`` whatever goes through ``kept`` is written to a file without a name in ``folder`` where it is
large; memory holds one weight at a time.  The file is gone when the last tensor in it is, whatever happens to the
process before.
"""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import onnx_ir as ir

from qcompiler.errors import OutputError

SPOOLED_BYTES = 1 << 20
"""Smaller tensors stay in memory: a graph has few thousand of them at most."""

_PACKED_BITS = (2, 4, 6)


class Spool:
    """One scratch file, made when the first tensor is appended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: BinaryIO | None = None

    def append(self, tensor: ir.TensorProtocol) -> ir.LazyTensor:
        """Write ``tensor`` and return one that reads it back, holding no memory between two reads.

        Raises:
            OutputError: the disk is full or cannot be written.
        """
        try:
            file = self._opened()
            offset = _aligned(file.seek(0, 2))
            file.seek(offset)
            _write(tensor, file)
            file.flush()
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(
                f"scratch data cannot be written to {self._folder}: {reason}; make room, or choose another place "
                "with -o."
            ) from error
        dtype, shape, size_bytes = tensor.dtype, ir.Shape(tensor.shape.numpy()), tensor.nbytes

        def read() -> ir.TensorProtocol:
            return _read(file, offset, size_bytes, dtype, shape)

        return ir.LazyTensor(read, dtype, shape, name=tensor.name)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            place = next(place for place in (self._folder, *self._folder.parents) if place.is_dir())
            opened = tempfile.TemporaryFile(prefix=".qcompiler-", dir=place)  # noqa: SIM115 - its tensors own it
            self._file = cast(BinaryIO, opened)
        return self._file


_ACTIVE: ContextVar[Spool | None] = ContextVar("spool", default=None)


@contextlib.contextmanager
def spooling(folder: Path) -> Iterator[None]:
    """Let ``kept`` write large tensors to a scratch file in ``folder`` (or the nearest folder above that exists)."""
    token = _ACTIVE.set(Spool(folder))
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def kept(tensor: ir.TensorProtocol, *, least_bytes: int = SPOOLED_BYTES) -> ir.TensorProtocol:
    """``tensor``, or the same from disk where it is in memory, large, and this runs within ``spooling``."""
    spool = _ACTIVE.get()
    if spool is None or tensor.nbytes < least_bytes or not isinstance(tensor, ir.Tensor | ir.PackedTensor):
        return tensor
    return spool.append(tensor)


def _write(tensor: ir.TensorProtocol, file: BinaryIO) -> None:
    if isinstance(tensor, ir.Tensor | ir.PackedTensor):
        tensor.tofile(file)
    else:
        file.write(tensor.tobytes())


def _read(
    file: BinaryIO, offset: int, size_bytes: int, dtype: ir.DataType, shape: ir.Shape
) -> ir.TensorProtocol:
    content = mmap.mmap(file.fileno(), size_bytes, access=mmap.ACCESS_READ, offset=offset)
    if dtype.bitwidth in _PACKED_BITS:
        return ir.PackedTensor(np.frombuffer(content, np.uint8), dtype, shape=shape)
    array = np.frombuffer(content, dtype.numpy().newbyteorder("<")).reshape(shape.numpy())
    return ir.Tensor(array, dtype=dtype, shape=shape)


def _aligned(offset: int) -> int:
    """The next offset at which a file can be mapped."""
    return -(-offset // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
