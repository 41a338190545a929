"""Model-local functions of the dialect: how codes become weights where DequantizeLinear cannot say it.

    DequantizeTable  w[.., k, ..] = scale[.., k // block_size, ..] * table[codes[.., k, ..]]
    DequantizeMin    w[.., k, ..] = scale[.., k // block_size, ..] * codes[.., k, ..] - min[.., k // block_size, ..]

k runs along ``axis``, and the last block may be short.  Bodies are standard ONNX, so that any runtime runs them.
"""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.graph.functions import DOMAIN, define_function

TABLE = "DequantizeTable"
MIN = "DequantizeMin"

_FLOAT = int(ir.DataType.FLOAT)
_INT32 = int(ir.DataType.INT32)

_BLOCKS = """
    shape = Shape (index)
    axis_index = Constant <value_int : int = @axis> ()
    length = Gather (shape, axis_index)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    rows = Range (zero, length, one)
    size = Constant <value_int : int = @block_size> ()
    block = Div (rows, size)
    scale_of_row = Gather <axis : int = @axis> (scale, block)
"""

_BODIES = {
    TABLE: f"""
    <domain: "{DOMAIN}", opset_import: ["" : OPSET]>
    {TABLE} <axis, block_size> (codes, table, scale) => (weights)
    {{
        index = Cast <to = {_INT32}> (codes)
        level = Gather <axis = 0> (table, index)
        {_BLOCKS}
        weights = Mul (level, scale_of_row)
    }}""",
    MIN: f"""
    <domain: "{DOMAIN}", opset_import: ["" : OPSET]>
    {MIN} <axis, block_size> (codes, scale, min) => (weights)
    {{
        index = Cast <to = {_FLOAT}> (codes)
        {_BLOCKS}
        scaled = Mul (index, scale_of_row)
        min_of_row = Gather <axis : int = @axis> (min, block)
        weights = Sub (scaled, min_of_row)
    }}""",
}


def require_function(model: ir.Model, name: str) -> None:
    """Define the function ``name`` in ``model`` where it is not defined yet."""
    define_function(model, name, _BODIES[name])
