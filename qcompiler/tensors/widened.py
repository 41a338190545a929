"""Constants of 16-bit floats read as float32: exact, and one at a time, while somebody reads them."""

from __future__ import annotations

import functools

import numpy as np
import onnx_ir as ir

HALF_TYPES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


class Widened(ir.LazyTensor):
    """A float32 tensor over one of float16 or bfloat16, which holds no memory of its own between two reads.

    Attributes:
        stored: the tensor as the file has it.
    """

    __slots__ = ("stored",)

    def __init__(self, stored: ir.TensorProtocol) -> None:
        super().__init__(
            functools.partial(_widen, stored),
            ir.DataType.FLOAT,
            ir.Shape(stored.shape.numpy()),
            name=stored.name,
            doc_string=stored.doc_string,
        )
        self.stored = stored


def stored_bytes(tensor: ir.TensorProtocol) -> int:
    """Bytes that a constant takes in the file, which are half of what a widened one takes in memory."""
    return tensor.stored.nbytes if isinstance(tensor, Widened) else tensor.nbytes


def _widen(stored: ir.TensorProtocol) -> ir.TensorProtocol:
    array = stored.numpy()
    if stored.dtype == ir.DataType.BFLOAT16:  # the upper half of a float32, which is quicker than to convert
        return ir.tensor((array.view(np.uint16).astype(np.uint32) << 16).view(np.float32), name=stored.name)
    return ir.tensor(array.astype(np.float32), name=stored.name)
