"""Rows of quantized embedding tables: codes are gathered, and only the rows asked for are dequantized."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.backends.onnxruntime.constant_value import constant_value
from qcompiler.backends.onnxruntime.low_bit_weight import LowBitWeight, makes_low_bit_weight, read_low_bit
from qcompiler.backends.tvm.private import constants, replace
from qcompiler.graph.weighted import array_of, is_constant


def lower_gather(model: ir.Model) -> list[Lowering]:
    """Rewrite every Gather of rows of a dequantized table in place; say what became of each."""
    imports = dict(model.graph.opset_imports)
    stored: dict[ir.Node, tuple[list[ir.Value], dict[str, int | str]]] = {}
    done = []
    for node in [node for node in model.graph if node.op_type == "Gather" and not node.domain]:
        axis, table, indices = node.attributes.get("axis"), node.inputs[0], node.inputs[1]
        maker = table.producer() if table is not None else None
        if maker is None or indices is None or (axis is not None and axis.as_int() != 0):
            continue
        if maker not in stored:
            weight = _read(maker, imports)
            if isinstance(weight, str) or (weight.scale.shape[1] > 1 and weight.group % 16):
                continue
            stored[maker] = _store(node, str(maker.outputs[0].name), weight)
        values, attributes = stored[maker]
        replace(node, node, "GatherRows", [indices, *values], attributes)
        done.append(Lowering(str(node.name), "GatherRows"))
    return done


def _read(maker: ir.Node, imports: dict[str, int]) -> LowBitWeight | str:
    if makes_low_bit_weight(maker):
        return read_low_bit(maker, 1, imports)
    codes = maker.inputs[0] if maker.op_type == "DequantizeLinear" and not maker.domain else None
    if codes is None or not is_constant(codes) or codes.dtype != ir.DataType.INT8:
        return "no quantized table"
    stored = array_of(codes)
    rest = [None if item is None else constant_value(item, imports) for item in maker.inputs[1:]]
    if stored.ndim != 2 or any(item is None for item in rest) or (len(rest) > 1 and np.any(rest[1])):
        return "no symmetric table"
    scale, axis = np.asarray(rest[0], np.float32), maker.attributes.get("axis")
    if scale.size > 1 and (axis is None or axis.as_int() % 2 != 0):
        return "its scales are not one a row"
    shifted = (stored.view(np.uint8) ^ np.uint8(128)).astype(np.uint8)
    rows = np.broadcast_to(scale.reshape(-1, 1), (len(stored), 1)).copy()
    return LowBitWeight(shifted, 8, rows, stored.shape[1])


def _store(node: ir.Node, name: str, weight: LowBitWeight) -> tuple[list[ir.Value], dict[str, int | str]]:
    from qcompiler.backends.tvm.kernels.gather_rows import pack

    arrays: list[tuple[str, npt.NDArray[np.generic]]] = [
        ("rows", pack(weight.codes, weight.bits)),
        ("row_scale", weight.scale),
    ]
    minimum = weight.minimum
    if minimum is None and weight.table is None and weight.zero_point is not None:
        minimum = weight.scale * weight.zero_point.astype(np.float32)
    if minimum is not None:
        arrays.append(("row_minimum", minimum.astype(np.float32)))
    if weight.table is not None:
        levels = np.zeros(1 << weight.bits, np.float32)
        levels[: len(weight.table)] = weight.table
        arrays.append(("row_table", levels))
    attributes: dict[str, int | str] = {
        "entries": weight.outputs,
        "columns": weight.rows,
        "bits": weight.bits,
        "group": weight.group if weight.scale.shape[1] > 1 else weight.rows,
        "offset": weight.middle,
        "minimum": int(minimum is not None),
        "table": int(weight.table is not None),
    }
    return constants(node.outputs[0], name, arrays), attributes
