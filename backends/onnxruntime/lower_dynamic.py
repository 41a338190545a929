"""MatMul of quantized activations and weights in the dialect, lowered to the integer kernels of ONNX Runtime.

    DequantizeLinear(q, s, z) -> MatMul(., DequantizeLinear(W)) [-> Add(bias)]

becomes ``MatMulIntegerToFloat(q, W, s, w_scale, z, w_zero_point, bias)`` where q comes out of QuantizeLinear, or of a
DynamicQuantizeLinear with several readers, and ``DynamicQuantizeMatMul(x, W, w_scale, w_zero_point, bias)`` where the
product is the only reader.  The per-token form multiplies the product by the row magnitudes afterwards (they commute
with a MatMul), and leaves the bias in its Add.

Projections of one input are not merged: three products of 384 columns take 298 us at 128 rows, one of 1152 columns and
the Split it needs 306 us.  Sharing the quantized input is what pays.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from qcompiler.backends.onnxruntime.half_scales import in_half
from qcompiler.graph.weighted import array_of, is_constant

MICROSOFT = "com.microsoft"
_BYTES = (ir.DataType.INT8, ir.DataType.UINT8)


@dataclass(frozen=True)
class _Weight:
    """Codes ``[K, N]``, scale 0-D or ``[N]``, and a zero point like it or None."""

    codes: ir.Value
    scale: ir.Value
    zero_point: ir.Value | None
    columns: int


@dataclass(frozen=True)
class _Activation:
    """uint8 codes with 0-D scale and zero point; ``magnitude`` ``[..., 1]`` in the per-token form."""

    quantize: ir.Node
    codes: ir.Value
    scale: ir.Value
    zero_point: ir.Value
    magnitude: ir.Value | None


def lower_dynamic_matmul(model: ir.Model) -> list[str]:
    """Rewrite every such MatMul in place and return the names of those rewritten."""
    products = [node for node in model.graph.all_nodes() if node.op_type == "MatMul" and node.domain == ""]
    lowered = [str(node.name) for node in products if _lower(node)]
    if lowered:
        model.opset_imports[MICROSOFT] = 1
        RemoveUnusedNodesPass()(model)
    return lowered


def _lower(product: ir.Node) -> bool:
    activation, weight, graph = _activation(product.inputs[0]), _weight(product.inputs[1]), product.graph
    if activation is None or weight is None or graph is None:
        return False
    add = None if activation.magnitude is not None else bias_add(product, weight.columns)
    if _is_quantized_again((add or product).outputs[0], activation.quantize):
        return False
    last = add or product
    bias = other_input(add, product.outputs[0]) if add is not None else None
    kernel = _kernel(activation, weight, bias, product)
    result, output = kernel.outputs[0], last.outputs[0]
    nodes = [kernel]
    if activation.magnitude is not None:
        result.name = f"{output.name}_of_unit_rows"
        nodes.append(ir.node("Mul", [result, activation.magnitude], name=f"{product.name}_row_magnitude"))
        result = nodes[-1].outputs[0]
    result.shape, result.type = output.shape, output.type
    graph.insert_before(last, nodes)
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    result.name = output.name
    if add is not None:
        graph.remove(add, safe=True)
    graph.remove(product, safe=True)
    return True


def _kernel(activation: _Activation, weight: _Weight, bias: ir.Value | None, product: ir.Node) -> ir.Node:
    quantize = activation.quantize
    source = quantize.inputs[0]
    dynamic = quantize.op_type == "DynamicQuantizeLinear"
    weight_scale = in_half(weight.scale)
    if dynamic and _readers(activation) == 1:
        inputs = [source, weight.codes, weight_scale, weight.zero_point, bias]
        op = "DynamicQuantizeMatMul"
    else:
        scales = [activation.scale, weight_scale, activation.zero_point, weight.zero_point]
        inputs = [activation.codes, weight.codes, *scales, bias]
        op = "MatMulIntegerToFloat"
    while inputs[-1] is None:
        inputs.pop()
    node = ir.node(op, inputs, domain=MICROSOFT, name=str(product.name))
    node.metadata_props.update(product.metadata_props)
    node.outputs[0].type = product.outputs[0].type
    return node


def _readers(activation: _Activation) -> int:
    """How many nodes read the codes, directly or dequantized (and multiplied by the row magnitudes)."""
    count = 0
    for use in activation.codes.uses():
        readers = [use.node]
        if use.node.op_type == "DequantizeLinear":
            readers = [other.node for other in use.node.outputs[0].uses()]
        if activation.magnitude is not None and [node.op_type for node in readers] == ["Mul"]:
            readers = [other.node for other in readers[0].outputs[0].uses()]
        count += len(readers)
    return count


def _activation(value: ir.Value | None) -> _Activation | None:
    node = value.producer() if value is not None else None
    magnitude = None
    if node is not None and node.op_type == "Mul":
        left, magnitude = node.inputs
        if left is None or not _is_row_magnitude(magnitude):
            return None
        node = left.producer()
    if node is None or node.op_type != "DequantizeLinear" or len(node.inputs) != 3:
        return None
    codes, scale, zero_point = node.inputs
    quantize = codes.producer() if codes is not None else None
    if quantize is None or codes is None or scale is None or zero_point is None:
        return None
    if quantize.op_type == "DynamicQuantizeLinear":
        fits = tuple(node.inputs) == tuple(quantize.outputs)
    else:
        same = quantize.op_type == "QuantizeLinear" and tuple(quantize.inputs[1:]) == (scale, zero_point)
        fits = (
            same and zero_point.dtype == ir.DataType.UINT8 and is_constant(scale) and not array_of(scale).ndim
        )
    return _Activation(quantize, codes, scale, zero_point, magnitude) if fits else None


def _is_row_magnitude(value: ir.Value | None) -> bool:
    """Whether a value is ``Max(ReduceMax(., axes=[-1], keepdims=1), constant)``, perhaps with a Slice to one column."""
    floor = value.producer() if value is not None else None
    if floor is None or floor.op_type != "Max" or len(floor.inputs) != 2 or not is_constant(floor.inputs[1]):
        return False
    reduce = floor.inputs[0].producer() if floor.inputs[0] is not None else None
    if reduce is not None and reduce.op_type == "Slice" and reduce.inputs[0] is not None:
        bounds = [
            array_of(bound).tolist()
            for bound in reduce.inputs[1:]
            if bound is not None and is_constant(bound)
        ]
        reduce = reduce.inputs[0].producer() if bounds == [[0], [1], [-1]] else None
    if reduce is None or reduce.op_type != "ReduceMax" or len(reduce.inputs) != 2:
        return False
    axes, keep = reduce.inputs[1], reduce.attributes.get("keepdims")
    return axes is not None and is_constant(axes) and array_of(axes).tolist() == [-1] and _is_one(keep)


def _is_one(attribute: ir.Attr | None) -> bool:
    return attribute is None or attribute.as_int() == 1


def _weight(value: ir.Value | None) -> _Weight | None:
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear" or not all(is_constant(v) for v in node.inputs[1:]):
        return None
    codes, scale = node.inputs[0], node.inputs[1]
    if codes is None or scale is None or codes.dtype not in _BYTES:
        return None
    shape = _constant_shape(codes)
    if shape is None or len(shape) != 2:
        return None
    axis = node.attributes.get("axis")
    per_column = array_of(scale).ndim == 1 and (axis is None or axis.as_int() in (1, -1))
    if array_of(scale).ndim and not per_column:
        return None
    return _Weight(codes, scale, node.inputs[2] if len(node.inputs) > 2 else None, shape[1])


def _constant_shape(codes: ir.Value) -> tuple[int, ...] | None:
    """Shape of constant codes, or of the Transpose of them that tied weights need and the runtime folds."""
    if is_constant(codes):
        return array_of(codes).shape
    turn = codes.producer()
    if (
        turn is None
        or turn.op_type != "Transpose"
        or not is_constant(turn.inputs[0])
        or turn.inputs[0] is None
    ):
        return None
    return array_of(turn.inputs[0]).shape[::-1]


def bias_add(product: ir.Node, columns: int) -> ir.Node | None:
    """The Add of a constant ``[columns]`` that alone reads a product, or None."""
    output = product.outputs[0]
    uses = list(output.uses())
    if len(uses) != 1 or output.is_graph_output() or uses[0].node.op_type != "Add":
        return None
    bias = other_input(uses[0].node, output)
    fits = bias is not None and is_constant(bias) and array_of(bias).shape == (columns,)
    return uses[0].node if fits and uses[0].node.graph is product.graph else None


def other_input(node: ir.Node, value: ir.Value) -> ir.Value | None:
    """What a node of two inputs reads beside ``value``."""
    return node.inputs[1] if node.inputs[0] is value else node.inputs[0]


def _is_quantized_again(output: ir.Value, quantize: ir.Node) -> bool:
    """A statically quantized product that only QuantizeLinear reads has a kernel of its own: left to the runtime."""
    readers = [use.node.op_type for use in output.uses()]
    return quantize.op_type == "QuantizeLinear" and bool(readers) and set(readers) == {"QuantizeLinear"}
