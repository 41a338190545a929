"""Weights from codebooks, which ONNX Runtime has no kernel for: read as values, to be put on a grid of int8.

Such a weight takes the form of other tables without a kernel (nf4): int8 columns, computed when the model is compiled;
with ``exact``, 8-bit blocks.  Either takes 8 bits a weight in the file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.low_bit_weight import Floats, LowBitWeight
from qcompiler.graph.codebook import CHANNELS, VECTORS
from qcompiler.graph.functions import DOMAIN
from qcompiler.graph.weighted import array_of, is_constant


@dataclass(frozen=True)
class CodebookWeight(LowBitWeight):
    """A weight whose codes no kernel reads: they are zeros, and only what they stand for is known.

    Attributes:
        look_up: the float32 weights ``[n, K]`` of some outputs.
    """

    look_up: Callable[[slice], Floats] = lambda outputs: np.zeros((0, 0), np.float32)

    def values(self, outputs: slice) -> Floats:
        return self.look_up(outputs)


def makes_codebook_weight(node: ir.Node | None) -> bool:
    """Whether a node looks a weight up in constant codebooks."""
    known = node is not None and node.domain == DOMAIN and node.op_type in (CHANNELS, VECTORS)
    return known and node is not None and all(is_constant(value) for value in node.inputs)


def read_codebook(node: ir.Node, k_axis: int) -> CodebookWeight | str:
    """The weight that ``node`` looks up, ``[K, N]`` where ``k_axis`` is 0, or why it has no such form."""
    if k_axis:
        return "its weight is looked up the other way round"
    codes, *others = (array_of(value) for value in node.inputs if value is not None)
    look_up = _channels(codes, *others) if node.op_type == CHANNELS else _vectors(codes, *others)
    columns = codes.shape[-1]
    rows = codes.shape[0] if node.op_type == CHANNELS else codes.shape[1] * others[0].shape[2]
    return CodebookWeight(
        codes=np.broadcast_to(np.uint8(0), (columns, rows)),
        bits=8,
        scale=np.ones((columns, 1), np.float32),
        group=rows,
        table=np.zeros(0, np.float32),
        look_up=look_up,
    )


Array = np.ndarray[tuple[int, ...], np.dtype[np.generic]]


def _channels(codes: Array, table: Array) -> Callable[[slice], Floats]:
    def look_up(outputs: slice) -> Floats:
        index = codes[:, outputs].astype(np.uint8).astype(np.int64)
        found: Floats = np.take_along_axis(table[:, outputs], index, 0).astype(np.float32)
        return np.ascontiguousarray(found.T)

    return look_up


def _vectors(codes: Array, book: Array, scale: Array) -> Callable[[slice], Floats]:
    def look_up(outputs: slice) -> Floats:
        index = codes[:, :, outputs].astype(np.int64)
        vectors = sum(book[b][index[b]].astype(np.float32) for b in range(len(book)))
        rows = np.asarray(vectors, np.float32).transpose(1, 0, 2).reshape(index.shape[2], -1)
        return np.asarray(rows * scale[outputs].astype(np.float32)[:, np.newaxis], np.float32)

    return look_up
