"""Small rewrites that bring equivalent dialect forms into the one form that the lowerings match."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.graph.narrow_codes import narrow_of
from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.graph.weighted import array_of, is_constant


def sink_transposes(model: ir.Model) -> int:
    """``Transpose(DequantizeLinear(codes))`` becomes a DequantizeLinear of transposed codes.

    Tied weights stay stored once: the Transpose of the codes is left to the runtime, which folds it.
    """
    transposes = [node for node in model.graph.all_nodes() if node.op_type == "Transpose"]
    return sum(_sink(node) for node in transposes)


def _sink(transpose: ir.Node) -> bool:
    source, graph = transpose.inputs[0], transpose.graph
    producer = source.producer() if source is not None else None
    if producer is None or producer.op_type != "DequantizeLinear" or not isinstance(graph, ir.Graph):
        return False
    codes, scale = producer.inputs[0], producer.inputs[1]
    if codes is None or scale is None or not is_constant(codes) or len(producer.inputs) > 2:
        return False
    array, output = array_of(codes), transpose.outputs[0]
    if array.ndim != 2:
        return False
    narrow = narrow_of(codes) is not None  # they are transposed behind what widens them
    shared = narrow or len(codes.uses()) > 1 or len(tuple(producer.outputs[0].uses())) > 1
    before: list[ir.Node] = []
    if shared:
        swap = ir.node("Transpose", [codes], {"perm": [1, 0]}, name=f"{transpose.name}_codes")
        swapped = swap.outputs[0]
        swapped.name, swapped.type = f"{codes.name}_transposed", ir.TensorType(ir.DataType.INT8)
        swapped.shape = ir.Shape(array.T.shape)
        before.append(swap)
    else:
        swapped = add_initializer(graph_of(codes), f"{codes.name}_transposed", np.ascontiguousarray(array.T))
    axis = producer.attributes.get("axis")
    attributes = {"axis": 1 - axis.as_int()} if axis is not None and array_of(scale).ndim else {}
    dequantize = ir.node("DequantizeLinear", [swapped, scale], attributes, name=str(transpose.name))
    dequantize.outputs[0].shape, dequantize.outputs[0].type = output.shape, output.type
    graph.insert_before(transpose, [*before, dequantize])
    output.replace_all_uses_with(dequantize.outputs[0], replace_graph_outputs=True)
    graph.remove(transpose, safe=True)
    dequantize.outputs[0].name = output.name
    return True


def split_dynamic_gemms(model: ir.Model) -> int:
    """A Gemm of a dynamically quantized activation becomes MatMul and Add, which have a fused kernel."""
    gemms = [
        node for node in model.graph.all_nodes() if node.op_type == "Gemm" and _is_dynamic(node.inputs[0])
    ]
    for gemm in gemms:
        _split(gemm)
    return len(gemms)


def spell_out_gemm_zero_points(model: ir.Model) -> int:
    """Give the weight of every quantized Gemm its zero point: QGemm is fused only where it is written."""
    gemms = [
        node for node in model.graph.all_nodes() if node.op_type == "Gemm" and node.inputs[1] is not None
    ]
    makers = {node.inputs[1].producer() for node in gemms if node.inputs[1] is not None}
    return sum(
        _spell_out(maker) for maker in makers if maker is not None and maker.op_type == "DequantizeLinear"
    )


def _spell_out(dequantize: ir.Node) -> bool:
    codes, scale = dequantize.inputs[0], dequantize.inputs[1]
    if len(dequantize.inputs) > 2 or codes is None or scale is None or not is_constant(codes):
        return False
    zeros = np.zeros(array_of(scale).shape, array_of(codes).dtype)
    dequantize.resize_inputs(3)
    dequantize.replace_input_with(2, add_initializer(graph_of(codes), f"{codes.name}_zero_point", zeros))
    return True


def _is_dynamic(value: ir.Value | None) -> bool:
    """Whether a value comes out of DynamicQuantizeLinear -> DequantizeLinear [-> Mul by row magnitude]."""
    producer = value.producer() if value is not None else None
    if producer is not None and producer.op_type == "Mul" and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    if producer is None or producer.op_type != "DequantizeLinear" or producer.inputs[0] is None:
        return False
    maker = producer.inputs[0].producer()
    return maker is not None and maker.op_type == "DynamicQuantizeLinear"


def _split(gemm: ir.Node) -> None:
    graph, output = gemm.graph, gemm.outputs[0]
    activation, weight = gemm.inputs[0], gemm.inputs[1]
    bias = gemm.inputs[2] if len(gemm.inputs) > 2 else None
    if not isinstance(graph, ir.Graph) or weight is None:
        raise AssertionError(f"{gemm.name} is not a Gemm of a graph")
    nodes: list[ir.Node] = []
    transposed = gemm.attributes.get("transB")
    if transposed is not None and transposed.as_int():
        turn = ir.node("Transpose", [weight], {"perm": [1, 0]}, name=f"{weight.name}_Transpose")
        turn.outputs[0].name, turn.outputs[0].type = f"{weight.name}_turned", weight.type
        nodes.append(turn)
        weight = turn.outputs[0]
    product = ir.node("MatMul", [activation, weight], name=str(gemm.name))
    product.metadata_props.update(gemm.metadata_props)
    product.outputs[0].type, product.outputs[0].shape = output.type, output.shape
    nodes.append(product)
    result = product.outputs[0]
    if bias is not None:
        result.name = f"{output.name}_product"
        add = ir.node("Add", [result, bias], name=f"{gemm.name}_bias")
        nodes.append(add)
        result = add.outputs[0]
        result.type, result.shape = output.type, output.shape
    graph.insert_before(gemm, nodes)
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    graph.remove(gemm, safe=True)
    result.name = output.name
