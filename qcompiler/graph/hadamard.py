"""Rotating an activation while the model runs: a model-local function with a standard body.

    Hadamard  y[.., b * n + i] = sum_j H[i, j] x[.., b * n + j],   H[i, j] = (-1)^(number of ones in i & j) / sqrt(n)

n is the attribute ``size``, a power of two up to 2^16.  The body makes H by the parity of ``i & j``; a runtime that
folds constants does so once, when it opens the model.
"""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph.functions import DOMAIN, define_function
from qcompiler.graph.qdq import ORIGIN, graph_of

HADAMARD = "Hadamard"
LEAST_OPSET = 18
"""BitwiseAnd and BitwiseXor."""

_UNSIGNED, _FLOAT = int(ir.DataType.UINT32), int(ir.DataType.FLOAT)

_PARITY = "".join(
    f"""
        step{shift} = Constant <value = uint32 {{{shift}}}> ()
        shifted{shift} = BitShift <direction = "RIGHT"> ({before}, step{shift})
        folded{shift} = BitwiseXor ({before}, shifted{shift})"""
    for before, shift in (("both", 8), ("folded8", 4), ("folded4", 2), ("folded2", 1))
)

_BODY = f"""
    <domain: "{DOMAIN}", opset_import: ["" : OPSET]>
    {HADAMARD} <size> (x) => (y)
    {{
        count = Constant <value_int : int = @size> ()
        zero = Constant <value_int = 0> ()
        one = Constant <value_int = 1> ()
        range = Range (zero, count, one)
        index = Cast <to = {_UNSIGNED}> (range)
        second_axis = Constant <value_ints = [1]> ()
        column = Unsqueeze (index, second_axis)
        both = BitwiseAnd (column, index){_PARITY}
        parity_bit = BitwiseAnd (folded1, step1)
        parity = Cast <to = {_FLOAT}> (parity_bit)
        minus_two = Constant <value_float = -2.0> ()
        plus_one = Constant <value_float = 1.0> ()
        negative = Mul (parity, minus_two)
        signs = Add (negative, plus_one)
        length = Cast <to = {_FLOAT}> (count)
        norm = Sqrt (length)
        matrix = Div (signs, norm)
        unknown = Constant <value_ints = [-1]> ()
        zero_axis = Constant <value_ints = [0]> ()
        count_axis = Unsqueeze (count, zero_axis)
        blocks_shape = Concat <axis = 0> (unknown, count_axis)
        blocks = Reshape (x, blocks_shape)
        turned = MatMul (blocks, matrix)
        shape = Shape (x)
        y = Reshape <allowzero = 1> (turned, shape)
    }}"""


def rotated(model: ir.Model, value: ir.Value, size: int, *, origin: str) -> ir.Value:
    """``value [.., K]`` in blocks of ``size`` channels times a Hadamard matrix; nobody reads it yet.

    Args:
        model: gets the function.
        value: float32, K a multiple of ``size``.
        size: a power of two.
        origin: name of the user's node that it is made for.
    """
    define_function(model, HADAMARD, _BODY)
    graph, name = graph_of(value), f"{value.name}_rotated"
    node = ir.node(HADAMARD, [value], {"size": size}, domain=DOMAIN, name=f"{name}_Hadamard")
    node.metadata_props[ORIGIN] = origin
    output = node.outputs[0]
    output.name, output.shape, output.type = name, value.shape, value.type
    producer = value.producer()
    if producer is not None:
        graph.insert_after(producer, node)
    else:
        graph.insert_before(graph[0], node)
    return output


def is_rotation(node: ir.Node | None) -> bool:
    """Whether a node is a call of the function."""
    return node is not None and node.domain == DOMAIN and node.op_type == HADAMARD
