"""What follows a product goes into its kernel: an activation function, and the residual that is added.

GemmInt8 -> Gelu                                     function
GemmInt8 -> Sigmoid -> Mul(., product)               SiLU
GemmInt8 -> Add(., residual of the same shape)       residual
"""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.backends.onnxruntime.lower_dynamic import other_input
from qcompiler.backends.tvm.importing.attributes import integer, text
from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.backends.tvm.private import adopt
from qcompiler.graph.weighted import is_constant

_FUNCTIONS = {"Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Gelu": "gelu"}
_PRODUCTS = ("GemmInt8", "GemmLowBit", "FloatGemm", "CodebookChannels", "CodebookVectors")


def fuse_epilogues(model: ir.Model) -> int:
    """Rewrite in place; return how many nodes went into kernels."""
    count = 0
    for node in [node for node in model.graph if node.domain == DOMAIN and node.op_type in _PRODUCTS]:
        current: ir.Node | None = node
        while current is not None:
            current = _fused(current)
            count += current is not None
    return count


def _fused(node: ir.Node) -> ir.Node | None:
    """The node with what follows it, or None where nothing more fits."""
    if integer(node, "residual", 0) or node.outputs[0].is_graph_output():
        return None
    readers = list(dict.fromkeys(use.node for use in node.outputs[0].uses()))
    if len(readers) == 2 and text(node, "function", "none") == "none":
        return _silu(node, readers)
    if len(readers) != 1 or readers[0].domain or readers[0].graph is not node.graph:
        return None
    reader = readers[0]
    if reader.op_type in _FUNCTIONS and text(node, "function", "none") == "none":
        tanh = reader.op_type == "Gelu" and text(reader, "approximate", "none") == "tanh"
        return adopt(node, reader, [], {"function": "gelu_tanh" if tanh else _FUNCTIONS[reader.op_type]})
    residual = (
        other_input(reader, node.outputs[0])
        if reader.op_type in ("Add", "Sum") and len(reader.inputs) == 2
        else None
    )
    if residual is None or residual is node.outputs[0] or is_constant(residual):
        return None
    shape, own = residual.shape, node.outputs[0].shape
    known = (
        shape is not None
        and own is not None
        and None not in (*(_name(d) for d in shape), *(_name(d) for d in own))
    )
    if not known or shape != own:
        return None
    return adopt(node, reader, [residual], {"residual": 1})


def _silu(node: ir.Node, readers: list[ir.Node]) -> ir.Node | None:
    gate = next((reader for reader in readers if reader.op_type == "Sigmoid" and not reader.domain), None)
    product = next((reader for reader in readers if reader.op_type == "Mul" and not reader.domain), None)
    if gate is None or product is None or gate.outputs[0].is_graph_output():
        return None
    if set(product.inputs) != {node.outputs[0], gate.outputs[0]} or len(gate.outputs[0].uses()) != 1:
        return None
    product.replace_input_with(list(product.inputs).index(gate.outputs[0]), node.outputs[0])
    graph = gate.graph
    assert graph is not None
    graph.remove(gate, safe=True)
    return adopt(node, product, [], {"function": "silu"})


def _name(size: object) -> object:
    return size.value if isinstance(size, ir.SymbolicDim) else size
