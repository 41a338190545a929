"""Products and look-ups with weights of few bits as MatMul and Gather of a float constant.

The weight is read out by the runtime's own kernel: fed with the identity, in blocks of rows, a product gives its weight
exactly, and a look-up of all rows gives its table. So every layout that the kernel knows is read as it reads it
(zero points packed or not, permuted groups, bits 2 to 8, nf4).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.diagnosis.lift_constants import constant_nodes, replace_by_constant
from qcompiler.diagnosis.stored import Array, Stored
from qcompiler.graph.weighted import is_constant
from qcompiler.sequential.slice import slice_model

_PRODUCTS = ("MatMulNBits", "MatMulBnb4")
_ROWS = 1024
_BIAS = 5
_TABLE_ROWS = 1 << 14


def lift_low_bit(model: ir.Model, stored: dict[str, Stored]) -> None:
    """Lift every product and look-up of the main graph whose weight is constant.

    Raises:
        ModelError: the runtime does not run one of them.
    """
    _hoist_branches(model)
    constant = constant_nodes(model)
    for node in list(model.graph):
        parameters = [value for value in node.inputs[1:] if value is not None]
        known = all(is_constant(value) or value.producer() in constant for value in parameters)
        if node.op_type in _PRODUCTS and known:
            _lift_product(model, node, stored)
        elif node.op_type == "GatherBlockQuantized" and is_constant(node.inputs[0]):
            _lift_look_up(model, node, stored)


def _hoist_branches(model: ir.Model) -> None:
    """Take products out of an If that chooses between kernels by the number of rows: both branches mean the same."""
    for node in list(model.graph):
        if node.op_type != "If":
            continue
        for name in ("then_branch", "else_branch"):
            branch = node.attributes[name].as_graph()
            inner = list(branch)
            outside = all(v is None or v.graph is not branch for item in inner for v in item.inputs)
            makers = [value.producer() for value in branch.outputs]
            if not outside or any(maker is None or maker.op_type not in _PRODUCTS for maker in makers):
                continue
            copies = [
                ir.node(item.op_type, item.inputs, domain=item.domain, name=f"{node.name}_{index}")
                for index, item in enumerate(makers)
                if item is not None
            ]
            for copy, item in zip(copies, makers, strict=True):
                copy.attributes.update(item.attributes if item is not None else {})
            new = [copy.outputs[0] for copy in copies]
            ir.convenience.replace_nodes_and_values(
                model.graph, node, [node], copies, list(node.outputs), new
            )
            break


def _lift_product(model: ir.Model, node: ir.Node, stored: dict[str, Stored]) -> None:
    weight = _weight_of(model, node)
    place = ir.Value(name=f"{node.outputs[0].name}_weight")
    product = ir.node("MatMul", [node.inputs[0], place], name=f"{node.name}_lifted")
    bias = node.inputs[_BIAS] if node.op_type == "MatMulNBits" and len(node.inputs) > _BIAS else None
    added = [product]
    if bias is not None:
        product.outputs[0].name = f"{node.outputs[0].name}_product"
        added.append(ir.node("Add", [product.outputs[0], bias], name=f"{node.name}_lifted_bias"))
    _put(model, node, added, stored, place, weight)


def _lift_look_up(model: ir.Model, node: ir.Node, stored: dict[str, Stored]) -> None:
    if _int(node, "gather_axis", 0) != 0:
        return
    table = node.inputs[0]
    assert table is not None
    assert table.const_value is not None
    rows = int(table.const_value.shape.numpy()[0])
    probe = _Probe(model, node, 1, ir.DataType.INT64)
    steps = range(0, rows, _TABLE_ROWS)
    weight = np.concatenate([probe.run(np.arange(at, min(rows, at + _TABLE_ROWS))) for at in steps])
    place = ir.Value(name=f"{node.outputs[0].name}_weight")
    look_up = ir.node("Gather", [place, node.inputs[1]], name=f"{node.name}_lifted")
    _put(model, node, [look_up], stored, place, weight)


def _weight_of(model: ir.Model, node: ir.Node) -> Array:
    """``[K, N]`` of a product."""
    rows = _int(node, "K", 0)
    scales = node.inputs[2]
    half = scales is not None and _dtype_of(scales) == ir.DataType.FLOAT16
    probe = _Probe(model, node, 0, ir.DataType.FLOAT16 if half else ir.DataType.FLOAT)
    parts = [probe.run(np.eye(min(_ROWS, rows - at), rows, at, np.float32)) for at in range(0, rows, _ROWS)]
    return np.concatenate(parts)


def _dtype_of(value: ir.Value) -> ir.DataType | None:
    return value.const_value.dtype if value.const_value is not None else value.dtype


class _Probe:
    """One operator with its constants, computed in float; ``fed`` is the input that is given."""

    def __init__(self, model: ir.Model, node: ir.Node, fed: int, dtype: ir.DataType) -> None:
        from qcompiler.backends.onnxruntime.session import open_model, session_options

        name = str(node.outputs[0].name)
        known = str(node.inputs[fed].name)  # type: ignore[union-attr]
        part = slice_model(model, [known], [name])
        copy = next(item for item in part.graph if item.op_type == node.op_type and item.name == node.name)
        if "accuracy_level" in copy.attributes:
            copy.attributes["accuracy_level"] = ir.AttrInt64("accuracy_level", 1)  # float32, not int8
        if len(copy.inputs) > _BIAS:
            copy.replace_input_with(_BIAS, None)
        source = copy.inputs[fed]
        assert source is not None
        source.type, source.shape = ir.TensorType(dtype), None
        self._known, self._name, self._dtype = known, name, dtype.numpy()
        part.graph.outputs[0].shape = None
        self._session = open_model(part, session_options(threads=1, optimize=False))

    def run(self, array: Array) -> Array:
        return np.asarray(self._session.run({self._known: array.astype(self._dtype)})[self._name])


def _put(
    model: ir.Model,
    node: ir.Node,
    added: list[ir.Node],
    stored: dict[str, Stored],
    place: ir.Value,
    weight: Array,
) -> None:
    """Exchange a node for float ones, which read ``weight`` at ``place``."""
    block, bits = _int(node, "block_size", 0), _int(node, "bits", 4)
    kind = {0: "fp4", 1: "nf4"}[_int(node, "quant_type", 1)] if node.op_type == "MatMulBnb4" else f"int{bits}"
    note = Stored(f"{kind} in blocks of {block}", bits, block_size=block)
    old = node.outputs[0]
    ir.convenience.replace_nodes_and_values(model.graph, node, [node], added, [old], [added[-1].outputs[0]])
    replace_by_constant(model, place, weight, note, stored)


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())
