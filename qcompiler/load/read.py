"""From a path to a ``ModelProto``; weights in external files are not touched."""

from __future__ import annotations

import mmap
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from qcompiler.errors import ModelError
from qcompiler.package.deployed import SUFFIX

PROTOBUF_LIMIT_BYTES = 2**31 - 1
"""A protobuf message cannot be larger; bigger models keep their weights in external data."""


def read_proto(path: Path) -> onnx.ModelProto:
    """Parse the file at ``path``.

    Raises:
        ModelError: no such file, a directory, empty, too large, not a protobuf, or cut short.
    """
    size_bytes = _check_file(path)
    proto = onnx.ModelProto()
    try:
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as content,
        ):
            proto.ParseFromString(content)  # mapped: inline weights are in memory once, not twice
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except DecodeError as error:
        raise ModelError(
            f"{path}: not an ONNX model, or cut short ({size_bytes} bytes do not parse as a protobuf); "
            "export or download it again"
        ) from error
    if not proto.HasField("graph") or not proto.HasField("ir_version"):
        missing = "graph" if proto.HasField("ir_version") else "ir_version"
        raise ModelError(
            f"{path}: not an ONNX model, or cut short (it has no {missing}); export or download it again"
        )
    return proto


def _check_file(path: Path) -> int:
    """Return the size in bytes of a file that may be a model."""
    if _is_compiled(path):
        raise ModelError(
            f"{path}: is compiled to native code, which holds no graph; give the ONNX model that it was made from "
            "(compare, bench, report, generate and eval take it as it is)"
        )
    if path.is_dir():
        raise ModelError(
            f"{path}: is a directory that holds {_models_in(path)}; give the path of one .onnx file"
        )
    try:
        size_bytes = path.stat().st_size
    except OSError as error:
        beside = f" ({path.parent} holds {_models_in(path.parent)})" if path.parent.is_dir() else ""
        raise ModelError(f"{path}: {error.strerror}; check the path{beside}") from error
    except ValueError as error:
        raise ModelError(f"{str(path)!r}: is not a path ({error}); give the path of an .onnx file") from error
    if not path.is_file():
        raise ModelError(f"{path}: is not a regular file; give the path of an .onnx file")
    if size_bytes == 0:
        raise ModelError(f"{path}: the file is empty (0 bytes); export or download it again")
    if size_bytes > PROTOBUF_LIMIT_BYTES:
        raise ModelError(
            f"{path}: {size_bytes} bytes is more than a protobuf can hold ({PROTOBUF_LIMIT_BYTES}); "
            "save the model with external data"
        )
    return size_bytes


def _is_compiled(path: Path) -> bool:
    """Whether this is the index of a native library, or a folder with one and no other model."""
    if path.is_dir():
        return any(path.glob(f"*{SUFFIX}")) and not any(path.glob("*.onnx"))
    return path.suffix == SUFFIX and path.is_file()


def _models_in(folder: Path) -> str:
    found = sorted(entry.name for entry in folder.glob("*.onnx"))
    return ", ".join([*found[:5], *(["..."] if len(found) > 5 else [])]) or "no .onnx file"
