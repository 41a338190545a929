"""Putting weights that are looked up in codebooks into the graph: model-local functions with standard bodies.

    LookUpChannels  w[k, n]         = table[codes[k, n], n]                           SqueezeLLM (arXiv 2306.07629)
    LookUpVectors   w[L * g + j, n] = scale[n] * sum_b book[b, codes[b, g, n], j]      AQLM (arXiv 2401.06118)

Both give the weight as ``[K, N]``; a Transpose stands behind them where it was stored the other way round.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.errors import UnsupportedError
from qcompiler.graph.constant_chain import ConstantChain
from qcompiler.graph.low_bit_functions import DOMAIN
from qcompiler.graph.qdq import graph_of
from qcompiler.graph.weighted import WeightedNode

CHANNELS = "LookUpChannels"
VECTORS = "LookUpVectors"

Codes = npt.NDArray[np.unsignedinteger]
Floats = npt.NDArray[np.float32]

_INT64 = int(ir.DataType.INT64)

_BODIES = {
    CHANNELS: f"""
    <domain: "{DOMAIN}", opset_import: ["" : OPSET]>
    {CHANNELS} (codes, table) => (weights)
    {{
        index = Cast <to = {_INT64}> (codes)
        weights = GatherElements <axis = 0> (table, index)
    }}""",
    VECTORS: f"""
    <domain: "{DOMAIN}", opset_import: ["" : OPSET]>
    {VECTORS} (codes, book, scale) => (weights)
    {{
        index = Cast <to = {_INT64}> (codes)
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


def store_channel_table(model: ir.Model, view: WeightedNode, codes: Codes, table: Floats) -> ir.Value:
    """Let ``view`` read its weight from codes ``[K, N]`` and a table ``[E, N]`` of each column's values."""
    return _store(model, view, CHANNELS, {"codes": codes, "table": table}, codes.shape)


def store_vectors(model: ir.Model, view: WeightedNode, codes: Codes, book: Floats, scale: Floats) -> ir.Value:
    """Let ``view`` read its weight from codes ``[B, G, N]``, books ``[B, E, L]`` and a scale ``[N]``.

    Raises:
        UnsupportedError: K is no multiple of L.
    """
    books, groups, columns = codes.shape
    rows = groups * book.shape[2]
    if rows != view.matrix().shape[0] or len(book) != books:
        raise UnsupportedError(
            f"codes {codes.shape} of vectors {book.shape} make {rows} rows of {view.weight.name!r}, which has "
            f"{view.matrix().shape[0]}; choose a length that divides them."
        )
    return _store(model, view, VECTORS, {"codes": codes, "book": book, "scale": scale}, (rows, columns))


def _store(
    model: ir.Model,
    view: WeightedNode,
    name: str,
    operands: Mapping[str, npt.NDArray[np.generic]],
    shape: tuple[int, ...],
) -> ir.Value:
    _require(model, name)
    chain = ConstantChain(graph_of(view.weight), str(view.weight.name))
    inputs = [chain.array(suffix, np.ascontiguousarray(array)) for suffix, array in operands.items()]
    value = chain.node(name, inputs, {}, "looked_up", shape, domain=DOMAIN)
    if view.output_axis == 0:
        value = chain.node("Transpose", [value], {}, "turned", shape[::-1])
    chain.insert()
    node, index = view.weight_reader
    node.replace_input_with(index, value)
    return value


def _require(model: ir.Model, name: str) -> None:
    """Define the function in ``model`` where it is not defined yet."""
    key = (DOMAIN, name, "")
    model.graph.opset_imports.setdefault(DOMAIN, 1)
    if key in model.functions:
        return
    opset = model.graph.opset_imports[""]
    header = f'<ir_version: 10, opset_import: ["" : {opset}]> unused () => () {{ }}'
    model.functions[key] = ir.from_onnx_text(header + _BODIES[name].replace("OPSET", str(opset))).functions[
        key
    ]
