"""The bytes of a tensor are as many as its shape and type say."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import onnx_ir as ir

from qcompiler.errors import ModelError
from qcompiler.load.contents import all_tensors
from qcompiler.load.external import check_external, external_place

_WIDE_FIELDS: dict[int, str] = {
    onnx.TensorProto.FLOAT: "float_data",
    onnx.TensorProto.DOUBLE: "double_data",
    onnx.TensorProto.INT64: "int64_data",
    onnx.TensorProto.UINT64: "uint64_data",
    onnx.TensorProto.UINT32: "uint64_data",
    onnx.TensorProto.STRING: "string_data",
    onnx.TensorProto.COMPLEX64: "float_data",
    onnx.TensorProto.COMPLEX128: "double_data",
}
"""Typed fields by data type; every other type is stored in ``int32_data``."""

_DATA_FIELDS = ("raw_data", "int32_data", *dict.fromkeys(_WIDE_FIELDS.values()))


def check_tensors(where: str, model: onnx.ModelProto, folder: Path | None) -> None:
    """Check type, dimensions and amount of data of every tensor, inline or external.

    Args:
        where: the words an error starts with.
        model: its external data is located, not read.
        folder: the model file's folder; None when the model came from memory.

    Raises:
        ModelError: an unknown type, a negative dimension, too little or too much data, or
            external data that is missing, short, or outside ``folder``.
    """
    for place, tensor in all_tensors(model):
        at = f"{where}: {place}"
        size_bytes = _size_bytes(at, tensor)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location, offset, length = external_place(at, tensor)
            check_external(at, folder, location, offset=offset, length=length, size_bytes=size_bytes)
        else:
            _check_inline(at, tensor, size_bytes)


def _size_bytes(at: str, tensor: onnx.TensorProto) -> int:
    """Return the bytes that shape and type ask for; sub-byte types are packed."""
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError:
        dtype = ir.DataType.UNDEFINED
    if dtype == ir.DataType.UNDEFINED:
        raise ModelError(f"{at}: has the unknown data type {tensor.data_type}; export the model again")
    if any(dim < 0 for dim in tensor.dims):
        raise ModelError(f"{at}: has a negative dimension in {list(tensor.dims)}; export the model again")
    if dtype == ir.DataType.STRING:
        return 0
    elements: int = math.prod(tensor.dims)
    return (elements * dtype.bitwidth + 7) // 8


def _check_inline(at: str, tensor: onnx.TensorProto, size_bytes: int) -> None:
    if tensor.HasField("raw_data"):
        seen, expected, unit = len(tensor.raw_data), size_bytes, "bytes"
    else:
        seen = len(getattr(tensor, _WIDE_FIELDS.get(tensor.data_type, "int32_data")))
        expected, unit = _typed_count(tensor, size_bytes), "values"
    filled = [field for field in _DATA_FIELDS if len(getattr(tensor, field))]
    if len(filled) > 1:
        raise ModelError(
            f"{at}: holds its data twice ({', '.join(filled)}); the file is damaged: export it again"
        )
    if seen != expected:
        raise ModelError(
            f"{at}: holds {seen} {unit}, but shape {list(tensor.dims)} of "
            f"{ir.DataType(tensor.data_type).name} needs {expected}; the file is damaged: export it again"
        )


def _typed_count(tensor: onnx.TensorProto, size_bytes: int) -> int:
    dtype = ir.DataType(tensor.data_type)
    count: int = math.prod(tensor.dims)
    if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
        return 2 * count
    return size_bytes if dtype != ir.DataType.STRING and dtype.bitwidth < 8 else count
