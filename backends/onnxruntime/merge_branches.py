"""Products of one input behind one If: one choice, and at prefill one quantization of what all of them read.

    If(few){MatMulNBits(x, A)}, If(few){MatMulNBits(x, B)}   ->   If(few){MatMulNBits(x, A), MatMulNBits(x, B)}

Queries, keys and values, and the two halves of a gated network, are such products.  Their columns are not joined into
one matrix: that gains nothing at decode, and costs a Split at prefill (docs/decisions/0009).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import onnx_ir as ir

from qcompiler.graph.qdq import graph_of

MICROSOFT = "com.microsoft"
BRANCHES = ("then_branch", "else_branch")
_SHARED = ("Abs", "ReduceMax", "Max", "Div")
"""What scales the rows of an input, in the order in which one reads another."""


def merge_branches(choices: Sequence[ir.Node]) -> None:
    """Put the branches of ``choices``, Ifs of one graph, into the first where they read the same condition."""
    by_condition: dict[ir.Value, list[ir.Node]] = defaultdict(list)
    for choice in choices:
        condition = choice.inputs[0]
        if condition is None:
            raise AssertionError(f"{choice.name} has no condition")
        by_condition[condition].append(choice)
    for group in by_condition.values():
        if len(group) > 1:
            _merge(group)


def _merge(choices: Sequence[ir.Node]) -> ir.Node:
    """One If that gives what all of them gave, named after them all (``a+b``)."""
    first, graph = choices[0], graph_of(choices[0].outputs[0])
    attributes = [
        ir.AttrGraph(name, _joined([choice.attributes[name].as_graph() for choice in choices]))
        for name in BRANCHES
    ]
    _share_rounding(attributes[1].as_graph())
    name = "+".join(str(choice.name) for choice in choices)
    merged = ir.Node("", "If", first.inputs, attributes, num_outputs=len(choices), name=name)
    graph.insert_before(first, merged)
    for choice, made in zip(choices, merged.outputs, strict=True):
        old = choice.outputs[0]
        made.shape, made.type = old.shape, old.type
        merged.metadata_props.update(choice.metadata_props)
        old.replace_all_uses_with(made, replace_graph_outputs=True)
        graph.remove(choice, safe=True)
        made.name = old.name
    return merged


def _joined(branches: Sequence[ir.Graph]) -> ir.Graph:
    """The nodes and outputs of all branches, in order."""
    nodes: list[ir.Node] = []
    outputs = [output for branch in branches for output in branch.outputs]
    for branch in branches:
        own = list(branch)
        branch.outputs.clear()
        branch.remove(own)
        nodes += own
    return ir.Graph([], outputs, nodes=nodes, name=branches[0].name)


def _share_rounding(branch: ir.Graph) -> None:
    """Scale and quantize each input once."""
    seen: dict[tuple[object, ...], ir.Node] = {}
    for node in list(branch):
        if node.op_type not in _SHARED:
            continue
        same = seen.setdefault((node.op_type, *node.inputs), node)
        if same is not node:
            node.outputs[0].replace_all_uses_with(same.outputs[0])
            branch.remove(node, safe=True)
    readers: dict[ir.Value, list[ir.Node]] = defaultdict(list)
    for node in branch:
        if node.op_type == "DynamicQuantizeMatMul" and node.inputs[0] is not None:
            readers[node.inputs[0]].append(node)
    for value, products in readers.items():
        if len(products) > 1:
            _quantize_once(branch, value, products)


def _quantize_once(branch: ir.Graph, value: ir.Value, products: Iterable[ir.Node]) -> None:
    listed = list(products)
    quantize = ir.node("DynamicQuantizeLinear", [value], num_outputs=3, name=f"{listed[0].name}_codes")
    dtypes = (ir.DataType.UINT8, ir.DataType.FLOAT, ir.DataType.UINT8)
    for output, part, dtype in zip(quantize.outputs, ("codes", "scale", "zero_point"), dtypes, strict=True):
        output.name, output.type = f"{listed[0].outputs[0].name}_{part}", ir.TensorType(dtype)
    branch.insert_before(listed[0], quantize)
    codes, scale, zero_point = quantize.outputs
    for product in listed:
        _, weight, weight_scale, *rest = product.inputs
        inputs = [codes, weight, scale, weight_scale, zero_point, *rest]
        kernel = ir.node("MatMulIntegerToFloat", inputs, domain=MICROSOFT, name=str(product.name))
        output, made = product.outputs[0], kernel.outputs[0]
        made.type, made.shape = output.type, output.shape
        branch.insert_before(product, kernel)
        output.replace_all_uses_with(made, replace_graph_outputs=True)
        branch.remove(product, safe=True)
        made.name = output.name
