"""BatchNormalization merged into the Conv, ConvTranspose or Gemm before it.

At inference ``y = (x - mean) * gamma / sqrt(variance + epsilon) + beta`` scales and shifts every channel, as
the weights before it can: ``W' = W * s`` along the output channels and ``b' = (b - mean) * s + beta`` with
``s = gamma / sqrt(variance + epsilon)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.qdq import add_initializer

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class ChannelAffine:
    """``y = x * scale + shift`` per channel, both ``[C]`` float64."""

    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]


def batchnorm_affine(
    gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float
) -> ChannelAffine:
    """Return what BatchNormalization does to each channel at inference; all arrays ``[C]``."""
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    return ChannelAffine(scale, beta - mean * scale)


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
        if node.op_type != "BatchNormalization" or node.domain != "":
            continue
        reason = _refusal(node)
        if reason is None:
            _fold(node)
            folded += 1
        else:
            notes.append(f"{node.name} (BatchNormalization) not folded: {reason}")
    return folded


def _refusal(batchnorm: ir.Node) -> str | None:
    """Return why the node cannot be folded, None when it can."""
    value = batchnorm.inputs[0]
    linear = value.producer() if value is not None else None
    if linear is None or linear.op_type not in ("Conv", "ConvTranspose", "Gemm") or linear.domain != "":
        return "no Conv, ConvTranspose or Gemm before it"
    if (
        value is None
        or len(value.uses()) != 1
        or value.is_graph_output()
        or linear.graph is not batchnorm.graph
    ):
        return f"the result of {linear.name} is used elsewhere too"
    if (
        len(batchnorm.inputs) != 5
        or any(output.uses() for output in batchnorm.outputs[1:])
        or _trains(batchnorm)
    ):
        return "it is in training mode"
    for parameter in (*linear.inputs[1:], *batchnorm.inputs[1:]):
        if parameter is not None and parameter.const_value is None:
            return f"{parameter.name!r} is not a constant"
    return _misfit(linear, batchnorm)


def _misfit(linear: ir.Node, batchnorm: ir.Node) -> str | None:
    """Return what is wrong with the numbers, None when there is one of each per output channel."""
    weight, bias = _array(linear.inputs[1]), _bias(linear)
    axis, groups = _output_axis(linear)
    channels = weight.shape[axis] * groups if weight.ndim > axis else 0
    parameters = [_array(value) for value in batchnorm.inputs[1:]]
    if groups < 1 or len(weight) % groups or any(parameter.shape != (channels,) for parameter in parameters):
        return f"its parameters do not fit the {channels} output channels of {linear.name}"
    if not np.all(parameters[3] + _float(batchnorm, "epsilon", 1e-5) > 0):
        return "its variance is not positive"
    if bias is not None and _array(bias).shape not in ((), (1,), (channels,), (1, channels), (1, 1)):
        return f"the bias of {linear.name} is not one number per channel"
    return None


def _fold(batchnorm: ir.Node) -> None:
    linear = batchnorm.inputs[0].producer() if batchnorm.inputs[0] is not None else None
    graph = batchnorm.graph
    assert linear is not None
    assert isinstance(graph, ir.Graph)
    gamma, beta, mean, variance = (_array(value) for value in batchnorm.inputs[1:])
    affine = batchnorm_affine(gamma, beta, mean, variance, _float(batchnorm, "epsilon", 1e-5))

    weight, bias = linear.inputs[1], _bias(linear)
    assert weight is not None
    axis, groups = _output_axis(linear)
    if linear.op_type == "Gemm":
        multiplier = _float(linear, "beta", 1.0)
        linear.attributes.pop("beta", None)
    else:
        multiplier = 1.0
    old_bias = multiplier * _array(bias).astype(np.float64).reshape(-1) if bias is not None else 0.0
    new_weight = scale_output_channels(_array(weight), affine.scale, axis, groups)
    new_bias = (old_bias * affine.scale + affine.shift).astype(new_weight.dtype)

    linear.replace_input_with(1, add_initializer(graph, f"{weight.name}_folded", new_weight))
    linear.resize_inputs(3)
    linear.replace_input_with(2, add_initializer(graph, f"{linear.name}_bias_folded", new_bias))
    linear.metadata_props["qcompiler.absorbed"] = str(batchnorm.name)
    _hand_over_output(batchnorm, linear, graph)


def _hand_over_output(batchnorm: ir.Node, linear: ir.Node, graph: ir.Graph) -> None:
    old, new = batchnorm.outputs[0], linear.outputs[0]
    name, shape = old.name, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(batchnorm, safe=True)
    new.name, new.shape = name, shape or new.shape


def _output_axis(linear: ir.Node) -> tuple[int, int]:
    if linear.op_type == "ConvTranspose":
        return 1, _int(linear, "group", 1)
    if linear.op_type == "Gemm":
        return (0 if _int(linear, "transB", 0) else 1), 1
    return 0, 1


def _bias(linear: ir.Node) -> ir.Value | None:
    return linear.inputs[2] if len(linear.inputs) > 2 else None


def _trains(batchnorm: ir.Node) -> bool:
    return bool(_int(batchnorm, "training_mode", 0))


def _array(value: ir.Value | None) -> Array:
    assert value is not None
    assert value.const_value is not None
    return value.const_value.numpy()


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _float(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_float()
