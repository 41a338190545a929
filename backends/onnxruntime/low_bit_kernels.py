"""The nodes that multiply by a weight of few bits: one product, or two behind an If.

    decode    MatMulNBits: reads few bytes, wins for a few rows
    prefill   DynamicQuantizeMatMul of x / m, times m: integer arithmetic, wins for many rows; m [..., 1] is each
              row's largest magnitude, because one scale for all rows would be that of the largest (attention sinks)

A weight ``scale * code - minimum`` needs one more product: ``y = MatMulNBits(x) - (sums of x over blocks) minimum``,
with the K / block sums of a row, a 32nd of the arithmetic.  MatMulNBits takes minima itself, as float zero points, at a
hundredth of its speed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.low_bit_operands import BlockOperands, ColumnOperands
from qcompiler.graph.dynamic import SMALLEST_ROW
from qcompiler.graph.qdq import add_initializer

MICROSOFT = "com.microsoft"


@dataclass
class KernelNodes:
    """Makes nodes; small constants that all of them share are made once, in the main graph."""

    main: ir.Graph
    level: int
    per_token: bool
    _constants: dict[str, ir.Value] = field(default_factory=dict)

    def constant(self, name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
        """A constant by name."""
        if name not in self._constants:
            self._constants[name] = add_initializer(self.main, name, array)
        return self._constants[name]

    def decode(self, x: ir.Value, weight: BlockOperands, bias: ir.Value | None, name: str) -> list[ir.Node]:
        """MatMulNBits, and what corrects it for minima; the last node gives the product."""
        inputs = [x, weight.data, weight.scales, weight.zero_points, None, bias]
        while inputs[-1] is None:
            inputs.pop()
        attributes = {
            "K": weight.rows,
            "N": weight.outputs,
            "bits": weight.bits,
            "block_size": weight.block,
            "accuracy_level": self.level,
        }
        product = ir.node("MatMulNBits", inputs, attributes, domain=MICROSOFT, name=name)
        if weight.minimum is None:
            return [product]
        rank = len(x.shape) if x.shape is not None else 0
        cut = np.array([*[0] * (rank - 1), weight.rows // weight.block, weight.block])
        shape = self.constant(f"qcompiler_blocks_of_{weight.block}_in_{weight.rows}_rank_{rank}", cut)
        parts = ir.node("Reshape", [x, shape], name=f"{name}_parts")
        last = self.constant("qcompiler_last_axis", np.array([-1]))
        sums = ir.node("ReduceSum", [parts.outputs[0], last], {"keepdims": 0}, name=f"{name}_sums")
        offset = ir.node("MatMul", [sums.outputs[0], weight.minimum], name=f"{name}_offset")
        result = ir.node("Sub", [product.outputs[0], offset.outputs[0]], name=f"{name}_without_minimum")
        return [product, parts, sums, offset, result]

    def prefill(self, x: ir.Value, weight: ColumnOperands, bias: ir.Value | None, name: str) -> list[ir.Node]:
        """DynamicQuantizeMatMul, per row; the last node gives the product."""
        if not self.per_token:
            inputs = [x, weight.codes, weight.scale, *([] if bias is None else [None, bias])]
            return [ir.node("DynamicQuantizeMatMul", inputs, domain=MICROSOFT, name=name)]
        last = self.constant("qcompiler_last_axis", np.array([-1]))
        floor = self.constant("qcompiler_smallest_row", np.array(SMALLEST_ROW, np.float32))
        size = ir.node("Abs", [x], name=f"{name}_abs")
        largest = ir.node("ReduceMax", [size.outputs[0], last], {"keepdims": 1}, name=f"{name}_row_max")
        magnitude = ir.node("Max", [largest.outputs[0], floor], name=f"{name}_row_magnitude")
        unit = ir.node("Div", [x, magnitude.outputs[0]], name=f"{name}_unit")
        operands = [unit.outputs[0], weight.codes, weight.scale]
        product = ir.node("DynamicQuantizeMatMul", operands, domain=MICROSOFT, name=name)
        scaled = ir.node("Mul", [product.outputs[0], magnitude.outputs[0]], name=f"{name}_scaled")
        nodes = [size, largest, magnitude, unit, product, scaled]
        if bias is not None:
            nodes.append(ir.node("Add", [scaled.outputs[0], bias], name=f"{name}_bias"))
        return nodes

    def few_rows(self, x: ir.Value, rows: int, k: int) -> list[ir.Node]:
        """Nodes whose last gives whether ``x [..., k]`` has fewer than ``rows`` rows."""
        limit = self.constant(f"{PREFILL_LIMIT}_{k}", np.array(rows * k, np.int64))
        size = ir.node("Size", [x], name=f"{x.name}_size")
        few = ir.node("Less", [size.outputs[0], limit], name=f"{x.name}_has_few_rows")
        for node, dtype in ((size, ir.DataType.INT64), (few, ir.DataType.BOOL)):
            node.outputs[0].name = str(node.name)
            node.outputs[0].type, node.outputs[0].shape = ir.TensorType(dtype), ir.Shape([])
        return [size, few]


PREFILL_LIMIT = "qcompiler_prefill_elements"
"""Name, with K behind it, of the constant that says from how many elements on a product takes its prefill branch."""


def branch(nodes: Sequence[ir.Node], name: str) -> ir.Graph:
    """A branch of an If that captures what its nodes read from outside."""
    for index, node in enumerate(nodes):
        node.outputs[0].name = f"{name}_{index}"
        node.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    return ir.Graph([], [nodes[-1].outputs[0]], nodes=nodes, name=name)


def either(few_rows: ir.Value, decode: ir.Graph, prefill: ir.Graph, name: str) -> ir.Node:
    """The If that runs one of two branches."""
    attributes = [ir.AttrGraph("then_branch", decode), ir.AttrGraph("else_branch", prefill)]
    return ir.Node("", "If", [few_rows], attributes, name=name)
