"""Putting weights that are looked up in codebooks into the graph: model-local functions with standard bodies.

    LookUpChannels  w[k, n]         = table[codes[k, n], n]                           SqueezeLLM (arXiv 2306.07629)
    LookUpVectors   w[L * g + j, n] = scale[n] * sum_b book[b, codes[b, g, n], j]      AQLM (arXiv 2401.06118)

Both give the weight as ``[K, N]``; a Gemm that has it the other way round gets a Transpose in front.  Codes of up to 16
entries are uint4, others uint8.  Tables and books are float32 that float16 holds exactly, where they are in its range.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import UnsupportedError
from qcompiler.graph.constant_chain import ConstantChain
from qcompiler.graph.functions import DOMAIN, define_function
from qcompiler.graph.low_bit import BITS, CODE_BITS, FORMAT
from qcompiler.graph.low_bit_codes import integer_tensor
from qcompiler.graph.qdq import graph_of
from qcompiler.graph.weighted import WeightedNode

CHANNELS = "LookUpChannels"
VECTORS = "LookUpVectors"

Codes = npt.NDArray[np.unsignedinteger]
Floats = npt.NDArray[np.float32]

_INDEX = int(ir.DataType.INT64)

_BODIES = {
    CHANNELS: f"""
    <domain: "{DOMAIN}", opset_import: ["" : OPSET]>
    {CHANNELS} (codes, table) => (weights)
    {{
        index = Cast <to = {_INDEX}> (codes)
        weights = GatherElements <axis = 0> (table, index)
    }}""",
    VECTORS: f"""
    <domain: "{DOMAIN}", opset_import: ["" : OPSET]>
    {VECTORS} (codes, book, scale) => (weights)
    {{
        index = Cast <to = {_INDEX}> (codes)
        last = Constant <value_ints = [-1]> ()
        places = Unsqueeze (index, last)
        found = GatherND <batch_dims = 1> (book, places)
        first = Constant <value_ints = [0]> ()
        vectors = ReduceSum <keepdims = 0> (found, first)
        turned = Transpose <perm = [0, 2, 1]> (vectors)
        columns = Shape (scale)
        shape = Concat <axis = 0> (last, columns)
        rows = Reshape (turned, shape)
        weights = Mul (rows, scale)
    }}""",
}


def channel_bits(shape: tuple[int, ...], entries: int) -> float:
    """Bits a weight of ``shape [K, N]`` with a table of ``entries`` in float16 for each column."""
    return _code_bits(entries) + 16 * entries / shape[0]


def vector_bits(shape: tuple[int, ...], books: int, entries: int, length: int) -> float:
    """Bits a weight of ``shape [K, N]`` with books and scales in float16."""
    shared = 16 * (books * entries * length + shape[1])
    return books * _code_bits(entries) / length + shared / math.prod(shape)


def store_channel_table(
    model: ir.Model, view: WeightedNode, codes: Codes, table: Floats, *, name: str = "channels"
) -> ir.Value:
    """Let ``view`` read its weight from codes ``[K, N]`` and a table ``[E, N]`` of each column's values.

    Args:
        model: gets the function.
        view: MatMul or Gemm.
        codes: below E.
        table: the values.
        name: of the format, for reports.
    """
    operands = {"codes": codes, "table": table}
    value = _store(model, view, CHANNELS, operands, codes.shape, len(table))
    _describe(value, name, channel_bits(codes.shape, len(table)), _code_bits(len(table)))
    return value


def store_vectors(
    model: ir.Model,
    view: WeightedNode,
    codes: Codes,
    book: Floats,
    scale: Floats,
    *,
    name: str = "vectors",
) -> ir.Value:
    """Let ``view`` read its weight from codes ``[B, G, N]``, books ``[B, E, L]`` and a scale ``[N]``.

    Raises:
        UnsupportedError: K is no multiple of L.
    """
    books, groups, columns = codes.shape
    entries, length = book.shape[1:]
    rows = groups * length
    if rows != view.matrix_shape[0] or len(book) != books:
        raise UnsupportedError(
            f"codes {codes.shape} of vectors {book.shape} make {rows} rows of {view.weight.name!r}, which has "
            f"{view.matrix_shape[0]}; choose a length that divides them."
        )
    operands = {"codes": codes, "book": book, "scale": scale}
    value = _store(model, view, VECTORS, operands, (rows, columns), entries)
    shape = (rows, columns)
    _describe(value, name, vector_bits(shape, books, entries, length), books * _code_bits(entries) / length)
    return value


def _code_bits(entries: int) -> int:
    return max(1, (entries - 1).bit_length())


def _store(
    model: ir.Model,
    view: WeightedNode,
    name: str,
    operands: Mapping[str, npt.NDArray[np.generic]],
    shape: tuple[int, ...],
    entries: int,
) -> ir.Value:
    """The looked-up ``[K, N]``, which ``view`` reads from now on."""
    define_function(model, name, _BODIES[name])
    chain = ConstantChain(graph_of(view.weight), str(view.weight.name))
    packed = ir.DataType.UINT4 if entries <= 16 else ir.DataType.UINT8
    inputs = [
        chain.tensor(suffix, integer_tensor(array, packed))
        if suffix == "codes"
        else chain.array(suffix, np.ascontiguousarray(array))
        for suffix, array in operands.items()
    ]
    value = looked_up = chain.node(name, inputs, {}, "looked_up", shape, domain=DOMAIN)
    if view.output_axis == 0 and view.transpose is None:
        value = chain.node("Transpose", [looked_up], {}, "turned", shape[::-1])
    chain.insert()
    view.node.replace_input_with(view.weight_input, value)
    return looked_up


def _describe(value: ir.Value, name: str, bits: float, code_bits: float) -> None:
    node = value.producer()
    assert node is not None
    node.metadata_props.update({FORMAT: name, BITS: f"{bits:.4f}", CODE_BITS: f"{code_bits:g}"})
