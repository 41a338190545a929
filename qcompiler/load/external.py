"""External data stays in the model's folder and is as long as the tensor needs."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from qcompiler.errors import ModelError
from qcompiler.tensors import mapped

SMALL_BYTES = 256


def external_place(at: str, tensor: onnx.TensorProto) -> tuple[str, int, int | None]:
    """Return location, offset in bytes, and length in bytes (None: as much as the shape needs).

    Raises:
        ModelError: no location, or an offset or length that is not a number of bytes.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if not location:
        raise ModelError(f"{at}: its external data has no location; export the model again")
    length = _bytes(at, "length", entries["length"]) if entries.get("length") else None
    return location, _bytes(at, "offset", entries.get("offset") or "0"), length


def check_external(
    at: str, folder: Path | None, location: str, *, offset: int, length: int | None, size_bytes: int
) -> None:
    """Check that the bytes ``[offset, offset + size_bytes)`` exist in a file inside ``folder``.

    The file is located and measured, never opened.

    Raises:
        ModelError: outside the folder (``..``, absolute, symbolic link), missing, or too short.
    """
    if folder is None:
        raise ModelError(
            f"{at}: has external data in {location!r}, and a model in memory has no folder to find it in; "
            "give the path of the .onnx file instead"
        )
    path = _inside(at, folder, location)
    try:
        status = path.stat()
    except OSError as error:
        raise ModelError(
            f"{at}: external data {location!r} cannot be read ({error.strerror}); "
            f"put the file beside the model in {folder}"
        ) from error
    if not path.is_file():
        raise ModelError(f"{at}: external data {location!r} is not a regular file; export the model again")
    if status.st_nlink > 1:
        raise ModelError(
            f"{at}: external data {location!r} has several hard links, which may point outside the model's "
            "folder; put a copy in its place"
        )
    if length is not None and length != size_bytes:
        raise ModelError(
            f"{at}: external data {location!r} has length {length}, but the tensor needs {size_bytes} bytes; "
            "export the model again"
        )
    if offset + size_bytes > status.st_size:
        raise ModelError(
            f"{at}: external data {location!r} is too short: bytes {offset} to {offset + size_bytes} are "
            f"needed, it has {status.st_size}; copy or download the file again"
        )


def map_tensors(graph: ir.Graph) -> None:
    """Let external tensors be mapped only while they are read, in subgraphs too.

    Those of up to ``SMALL_BYTES`` (shapes, axes and scalars) are read into memory: shape inference and constant
    folding look at them, and the ``onnx`` package does not read external data there.
    """
    for inner in (graph, *graph.subgraphs()):
        for value in inner.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor):
                value.const_value = _in_memory(tensor) if tensor.nbytes <= SMALL_BYTES else mapped(tensor)


def _in_memory(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    return ir.Tensor(mapped(tensor).numpy().copy(), dtype=tensor.dtype, name=tensor.name)


def _inside(at: str, folder: Path, location: str) -> Path:
    if "\0" in location:
        raise ModelError(f"{at}: external data location {location!r} is not a path; export the model again")
    path = folder / location
    real = path.resolve()
    if (
        Path(location).is_absolute()
        or ".." in Path(location).parts
        or not real.is_relative_to(folder.resolve())
    ):
        raise ModelError(
            f"{at}: external data {location!r} leaves the model's folder; "
            f"put the data file itself into {folder}, and refer to it by a relative path"
        )
    return path


def _bytes(at: str, key: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 2**63:
        raise ModelError(
            f"{at}: its external data has {key} {text!r}, not a number of bytes; export it again"
        )
    return number
