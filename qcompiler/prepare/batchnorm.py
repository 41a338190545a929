"""BatchNormalization, and Mul or Add by constants, merged into the Conv, ConvTranspose or Gemm before it.

What scales and shifts every output channel, ``y = x * s + t``, the weights before it can do as well:
``W' = W * s`` along the output channels and ``b' = b * s + t``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.qdq import add_initializer
from qcompiler.prepare.affine import AFFINE_OPERATORS, Array, ChannelAffine, read_affine

ABSORBED = "qcompiler.absorbed"
"""Metadata key: names of the nodes of the user's file that were merged into a node, one a line."""

_LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm"})


def scale_output_channels(weight: Array, scale: npt.NDArray[np.float64], axis: int, groups: int) -> Array:
    """Multiply ``weight`` along its output channels.

    Args:
        weight: Conv ``[M, C/groups, ...]`` (axis 0), Gemm ``[N, K]`` (0) or ``[K, N]`` (1), ConvTranspose
            ``[C, M/groups, ...]`` (1), where rows ``g * C/groups`` and up make the channels ``g * M/groups`` and up.
        scale: ``[M]``.
        axis: where ``weight`` has its output channels.
        groups: of a ConvTranspose, else 1.
    """
    per_group = scale.reshape(groups, -1)
    blocks = weight.reshape(groups, -1, *weight.shape[1:]) if axis else weight[np.newaxis]
    shape = [groups] + [1] * weight.ndim
    shape[axis + 1] = per_group.shape[1]
    return (blocks * per_group.reshape(shape)).reshape(weight.shape).astype(weight.dtype)


def fold_batchnorms(model: ir.Model, notes: list[str]) -> int:
    """Fold in place, in subgraphs too, and return how many; the node before keeps its name."""
    folded = 0
    for node in list(model.graph.all_nodes()):
        if node.op_type not in AFFINE_OPERATORS or node.domain != "":
            continue
        linear = _linear_before(node)
        affine = _read(node, linear) if isinstance(linear, ir.Node) else linear
        if isinstance(linear, ir.Node) and isinstance(affine, ChannelAffine):
            _fold(node, linear, affine)
            folded += 1
        elif node.op_type == "BatchNormalization":
            notes.append(f"{node.name} (BatchNormalization) not folded: {affine}")
    return folded


def _linear_before(node: ir.Node) -> ir.Node | str:
    """Return the node whose result only ``node`` reads, or why there is none."""
    values = node.inputs[:1] if node.op_type == "BatchNormalization" else node.inputs
    made = [(value, producer) for value in values if value is not None and (producer := value.producer())]
    if len(made) != 1 or made[0][1].op_type not in _LINEAR or made[0][1].domain != "":
        return "no Conv, ConvTranspose or Gemm before it"
    value, linear = made[0]
    if len(value.uses()) != 1 or value.is_graph_output() or linear.graph is not node.graph:
        return f"the result of {linear.name} is used elsewhere too"
    return linear


def _read(node: ir.Node, linear: ir.Node) -> ChannelAffine | str:
    for parameter in linear.inputs[1:]:
        if parameter is not None and parameter.const_value is None:
            return f"{parameter.name!r} is not a constant"
    weight, bias = _array(linear.inputs[1]), _bias(linear)
    axis, groups = _output_axis(linear)
    if weight.ndim <= axis or groups < 1 or len(weight) % groups:
        return f"the weight of {linear.name} does not fit its groups"
    channels = weight.shape[axis] * groups
    if bias is not None and _array(bias).shape not in ((), (1,), (channels,), (1, channels), (1, 1)):
        return f"the bias of {linear.name} is not one number per channel"
    tied = linear.inputs[1] is not None and len(linear.inputs[1].uses()) > 1
    if tied and node.op_type != "BatchNormalization":
        return f"the weight of {linear.name} is used elsewhere too"
    return read_affine(node, weight.ndim, channels)


def _fold(node: ir.Node, linear: ir.Node, affine: ChannelAffine) -> None:
    graph, weight, bias = node.graph, linear.inputs[1], _bias(linear)
    assert isinstance(graph, ir.Graph)
    assert weight is not None
    old_weight = _array(weight)
    old_bias = np.zeros(1) if bias is None else _array(bias).astype(np.float64).reshape(-1)
    if linear.op_type == "Gemm" and (beta := linear.attributes.pop("beta", None)) is not None:
        old_bias = old_bias * beta.as_float()
    new_bias = (old_bias * affine.scale + affine.shift).astype(old_weight.dtype)
    if np.any(affine.scale != 1):
        axis, groups = _output_axis(linear)
        scaled = scale_output_channels(old_weight, affine.scale, axis, groups)
        linear.replace_input_with(1, add_initializer(graph, f"{weight.name}_folded", scaled))
    linear.resize_inputs(3)
    linear.replace_input_with(2, add_initializer(graph, f"{linear.name}_bias_folded", new_bias))
    absorbed = linear.metadata_props.get(ABSORBED)
    linear.metadata_props[ABSORBED] = f"{absorbed}\n{node.name}" if absorbed else str(node.name)
    _hand_over_output(node, linear, graph)


def _hand_over_output(node: ir.Node, linear: ir.Node, graph: ir.Graph) -> None:
    old, new = node.outputs[0], linear.outputs[0]
    name, shape = old.name, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    new.name, new.shape = name, shape or new.shape


def _output_axis(linear: ir.Node) -> tuple[int, int]:
    """Return the weight's axis of output channels, and how many groups share it."""
    if linear.op_type == "ConvTranspose":
        return 1, _int(linear, "group", 1)
    if linear.op_type == "Gemm":
        return (0 if _int(linear, "transB", 0) else 1), 1
    return 0, 1


def _bias(linear: ir.Node) -> ir.Value | None:
    return linear.inputs[2] if len(linear.inputs) > 2 else None


def _array(value: ir.Value | None) -> Array:
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()
