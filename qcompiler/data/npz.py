"""Arrays of a .npz file, read a few rows at a time.

A member that is stored uncompressed is read in place.  A compressed one cannot be read from the middle, so it is
unpacked once to a temporary file, a block at a time.
"""

from __future__ import annotations

import logging
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from numpy.lib import format as npy_format

from qcompiler.data.feeds import Array
from qcompiler.data.npy import NpyHeader, NpyRows, open_npy, read_header
from qcompiler.data.reason import first_line
from qcompiler.data.spool import Spool
from qcompiler.errors import CalibrationError

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LOCAL_HEADER_BYTES = 30
_LOCAL_LENGTHS = struct.Struct("<HH")


@dataclass(frozen=True)
class UnpackedRows(NpyRows):
    """Rows of a member unpacked to a temporary file; holds the file."""

    spool: Spool | None = None


def open_npz(path: Path) -> dict[str, NpyRows]:
    """Open the arrays of a .npz by name; nothing but headers stays in memory.

    Raises:
        CalibrationError: not a zip, damaged (checksums are verified), encrypted, or with pickled members.
    """
    return _each_member(path, _open_member)


def read_npz(path: Path) -> dict[str, Array]:
    """Read all of a .npz that is one feed.

    Raises:
        CalibrationError: as :func:`open_npz`.
    """
    return _each_member(path, _read_member)


def _each_member(path: Path, read: Callable[[zipfile.ZipFile, zipfile.ZipInfo, Path], T]) -> dict[str, T]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not member.is_dir()]
            return {member.filename.removesuffix(".npy"): read(archive, member, path) for member in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, OSError) as error:
        reason = first_line(error)
        raise CalibrationError(
            f"cannot read {path} as .npz ({reason}). Save it again with numpy.savez."
        ) from error


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Array:
    with archive.open(member) as file:
        _check_member(file, member, path)
        file.seek(0)
        array: Array = npy_format.read_array(file, allow_pickle=False)
        file.read(1)  # the end of the member verifies its checksum
        return array


def _check_member(file: IO[bytes], member: zipfile.ZipInfo, path: Path) -> NpyHeader:
    label = f"{member.filename} in {path}"
    header = read_header(file, label)
    if member.file_size < header.offset_bytes + header.size_bytes:
        raise CalibrationError(f"{label} ends in the middle of its data. Save it again with numpy.savez.")
    return header


def _open_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> NpyRows:
    with archive.open(member) as file:
        header = _check_member(file, member, path)
    if member.compress_type == zipfile.ZIP_STORED:
        return _open_in_place(archive, member, path, header)
    logger.info(
        "%s in %s is compressed: unpacked to a temporary file (numpy.savez avoids that)",
        member.filename,
        path,
    )
    spool = Spool()
    with archive.open(member) as file:
        unpacked = open_npy(spool.copy(file, "array.npy"))
    return UnpackedRows(unpacked.path, unpacked.header, spool=spool)


def _open_in_place(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path, header: NpyHeader
) -> NpyRows:
    with archive.open(member) as file:  # reading to the end verifies the checksum
        while file.read(1 << 20):
            pass
    with path.open("rb") as raw:
        raw.seek(member.header_offset + _LOCAL_HEADER_BYTES - _LOCAL_LENGTHS.size)
        name_bytes, extra_bytes = _LOCAL_LENGTHS.unpack(raw.read(_LOCAL_LENGTHS.size))
    return NpyRows(path, header, member.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes)
