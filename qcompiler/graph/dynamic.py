"""Activations quantized at run time, in standard ONNX; a shared activation is quantized once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompiler.graph.qdq import add_initializer, graph_of

SMALLEST_ROW = 1e-30
"""A row of zeros is divided by this instead of by zero."""


@dataclass
class DynamicActivations:
    """Puts DynamicQuantizeLinear and DequantizeLinear behind activations.

    Attributes:
        per_token: divide each row by its largest magnitude first and multiply it back afterwards.
    """

    per_token: bool
    _made: dict[int, ir.Value] = field(default_factory=dict)

    def dequantized(self, value: ir.Value) -> ir.Value:
        """``value`` after a round trip through codes chosen at run time."""
        if id(value) not in self._made:
            known = _of_unit_rows(value) if self.per_token else _of_tensor(value)
            self._made[id(value)] = self._round_trip(value) if known is None else known
        return self._made[id(value)]

    def _round_trip(self, value: ir.Value) -> ir.Value:
        chain = _Chain(value)
        if not self.per_token:
            return chain.round_trip(value)
        # ONNX Runtime keeps the last axis of an empty tensor as long as it was: the Slice makes it one again.
        floor = add_initializer(graph_of(value), f"{value.name}_floor", np.array(SMALLEST_ROW, np.float32))
        last = add_initializer(graph_of(value), f"{value.name}_last_axis", np.array([-1], np.int64))
        first = add_initializer(graph_of(value), f"{value.name}_slice_start", np.array([0], np.int64))
        second = add_initializer(graph_of(value), f"{value.name}_slice_end", np.array([1], np.int64))
        magnitude = chain.add("Abs", [value], "abs")
        magnitude = chain.add("ReduceMax", [magnitude, last], "row_max", keepdims=1)
        magnitude = chain.add("Slice", [magnitude, first, second, last], "row_first")
        magnitude = chain.add("Max", [magnitude, floor], "row_magnitude")
        magnitude.shape = None
        unit = chain.add("Div", [value, magnitude], "unit")
        return chain.add("Mul", [chain.round_trip(unit), magnitude], "dequantized")


def _of_tensor(value: ir.Value) -> ir.Value | None:
    """What a round trip that another pass made gives; None where there is none."""
    for quantize in _readers(value, "DynamicQuantizeLinear"):
        if quantize.name != f"{value.name}_DynamicQuantizeLinear":
            continue  # the user's own, which may stand behind what is to read it
        for dequantize in _readers(quantize.outputs[0], "DequantizeLinear"):
            if tuple(dequantize.inputs) == tuple(quantize.outputs):
                return dequantize.outputs[0]
    return None


def _of_unit_rows(value: ir.Value) -> ir.Value | None:
    """The same in the per-token form: multiplied by what the rows were divided by."""
    for divide in _readers(value, "Div"):
        unit = _of_tensor(divide.outputs[0]) if divide.inputs[0] is value else None
        multiply = [] if unit is None else _readers(unit, "Mul")
        for node in multiply:
            if tuple(node.inputs) == (unit, divide.inputs[1]):
                return node.outputs[0]
    return None


def _readers(value: ir.Value, op_type: str) -> list[ir.Node]:
    """Nodes of the graph of ``value`` that read it."""
    found = dict.fromkeys(use.node for use in value.uses() if use.node.op_type == op_type)
    return [node for node in found if node.graph is value.graph]


class _Chain:
    """Nodes put one after the other behind a value."""

    def __init__(self, value: ir.Value) -> None:
        self._value, self._graph = value, graph_of(value)
        self._last: ir.Node | None = value.producer()

    def add(self, op: str, inputs: list[ir.Value], suffix: str, **attributes: int) -> ir.Value:
        node = ir.node(op, inputs, attributes, name=f"{self._value.name}_{op}_{suffix}")
        self._place(node)
        output = node.outputs[0]
        output.name, output.type = f"{self._value.name}_{suffix}", ir.TensorType(ir.DataType.FLOAT)
        if op in ("Abs", "Div", "Mul"):
            output.shape = self._value.shape
        return output

    def round_trip(self, value: ir.Value) -> ir.Value:
        name = str(value.name)
        quantize = ir.node(
            "DynamicQuantizeLinear", [value], name=f"{name}_DynamicQuantizeLinear", num_outputs=3
        )
        codes, scale, zero_point = quantize.outputs
        codes.name, scale.name, zero_point.name = f"{name}_quantized", f"{name}_scale", f"{name}_zero_point"
        codes.shape, scale.shape, zero_point.shape = value.shape, ir.Shape([]), ir.Shape([])
        codes.type = zero_point.type = ir.TensorType(ir.DataType.UINT8)
        scale.type = ir.TensorType(ir.DataType.FLOAT)
        dequantize = ir.node("DequantizeLinear", list(quantize.outputs), name=f"{name}_DequantizeLinear")
        output = dequantize.outputs[0]
        output.name, output.shape = f"{name}_dequantized", value.shape
        output.type = ir.TensorType(ir.DataType.FLOAT)
        self._place(quantize)
        self._place(dequantize)
        return output

    def _place(self, node: ir.Node) -> None:
        if self._last is not None:
            self._graph.insert_after(self._last, node)
        else:
            self._graph.insert_before(self._graph[0], node)
        self._last = node
