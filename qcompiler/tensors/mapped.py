"""External data that is mapped when it is read and unmapped when the array that was read is dropped.

``ir.ExternalTensor`` keeps its map, and so every page that was ever read stays resident: a pass over all weights ends
with all of them in memory.  Here nothing is kept; the last reference to the array ends the map.
"""

from __future__ import annotations

import functools

import onnx_ir as ir


def mapped(tensor: ir.ExternalTensor) -> ir.LazyTensor:
    """A tensor over the same bytes of the same file that holds no memory between two reads.

    Its arrays are read-only.  4-bit and 2-bit types are unpacked at every read.
    """
    fresh = functools.partial(
        ir.ExternalTensor,
        tensor.location,
        tensor.offset,
        tensor.length,
        tensor.dtype,
        shape=tensor.shape,
        name=str(tensor.name),
        base_dir=tensor.base_dir,
    )
    return ir.LazyTensor(fresh, tensor.dtype, tensor.shape, name=tensor.name, doc_string=tensor.doc_string)
