"""A table of embeddings that is also the last layer's weight stays one initializer.

The exporter folds ``MatMul(x, Transpose(table))`` into a second, transposed copy; here it becomes the first form again,
which every pass understands.  ONNX Runtime transposes the constant once, when it loads the model.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir


def tie(model: ir.Model) -> int:
    """Replace weights of MatMul that equal a transposed table of Gather, in place; returns how many."""
    tables = [node.inputs[0] for node in model.graph if node.op_type == "Gather" and node.domain == ""]
    found = 0
    for node in list(model.graph):
        weight = node.inputs[1] if node.op_type == "MatMul" and node.domain == "" else None
        table = next((table for table in tables if _is_transposed(weight, table)), None)
        if table is None or weight is None:
            continue
        turned = ir.node("Transpose", [table], {"perm": [1, 0]}, name=f"{node.name}/Transpose")
        turned.outputs[0].name = f"{table.name}.transposed"
        turned.outputs[0].shape, turned.outputs[0].type = weight.shape, weight.type
        model.graph.insert_before(node, turned)
        node.replace_input_with(1, turned.outputs[0])
        if not weight.uses() and not weight.is_graph_output():
            del model.graph.initializers[weight.name or ""]
        found += 1
    return found


def _is_transposed(weight: ir.Value | None, table: ir.Value | None) -> bool:
    if weight is None or table is None or weight.const_value is None or table.const_value is None:
        return False
    shapes = tuple(weight.const_value.shape.numpy()), tuple(table.const_value.shape.numpy())
    if len(shapes[0]) != 2 or shapes[0] != shapes[1][::-1]:
        return False
    return bool(np.array_equal(weight.const_value.numpy(), table.const_value.numpy().T))
