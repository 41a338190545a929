"""Nodes that scale and shift every channel by constants: BatchNormalization at inference, Mul, Add, Sub, Div.

Written as ``y = x * scale + shift`` they can be merged into the weights before them.  For BatchNormalization
``scale = gamma / sqrt(variance + epsilon)`` and ``shift = beta - mean * scale``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

Array = npt.NDArray[np.floating]

AFFINE_OPERATORS = frozenset({"Add", "BatchNormalization", "Div", "Mul", "Sub"})


@dataclass(frozen=True)
class ChannelAffine:
    """``y = x * scale + shift`` per channel (axis 1), both ``[C]`` float64."""

    scale: npt.NDArray[np.float64]
    shift: npt.NDArray[np.float64]


def batchnorm_affine(
    gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float
) -> ChannelAffine:
    """Return what BatchNormalization does to each channel at inference; all arrays ``[C]``."""
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    return ChannelAffine(scale, beta - mean * scale)


def read_affine(node: ir.Node, rank: int, channels: int) -> ChannelAffine | str:
    """Return what ``node`` does to each channel of its first input, or why it is not an affine of constants.

    Args:
        node: one of ``AFFINE_OPERATORS``; for Mul and Add the constant may be either input.
        rank: of the input.
        channels: size of its axis 1.
    """
    if node.op_type == "BatchNormalization":
        return _read_batchnorm(node, channels)
    constants = [value for value in node.inputs if value is not None and value.const_value is not None]
    if len(constants) != 1 or (node.op_type in ("Sub", "Div") and constants[0] is not node.inputs[1]):
        return "no constant to merge"
    tensor = constants[0].const_value
    assert tensor is not None
    number = _per_channel(tensor.numpy(), rank, channels)
    if number is None:
        return f"{constants[0].name!r} is not one number per channel"
    one, zero = np.ones(channels), np.zeros(channels)
    if node.op_type == "Div":
        return ChannelAffine(1 / number, zero) if np.all(number != 0) else "it divides by zero"
    if node.op_type == "Mul":
        return ChannelAffine(number, zero)
    return ChannelAffine(one, -number if node.op_type == "Sub" else number)


def _read_batchnorm(node: ir.Node, channels: int) -> ChannelAffine | str:
    training = node.attributes.get("training_mode")
    if len(node.inputs) != 5 or any(output.uses() for output in node.outputs[1:]):
        return "it is in training mode"
    if training is not None and training.as_int():
        return "it is in training mode"
    arrays = []
    for value in node.inputs[1:]:
        if value is None or value.const_value is None:
            return f"{value.name if value else ''!r} is not a constant"
        arrays.append(value.const_value.numpy())
    if any(array.shape != (channels,) for array in arrays):
        return f"its parameters do not fit {channels} channels"
    epsilon = node.attributes["epsilon"].as_float() if "epsilon" in node.attributes else 1e-5
    if not np.all(arrays[3] + epsilon > 0):
        return "its variance is not positive"
    gamma, beta, mean, variance = arrays
    return batchnorm_affine(gamma, beta, mean, variance, epsilon)


def _per_channel(array: npt.NDArray[np.generic], rank: int, channels: int) -> npt.NDArray[np.float64] | None:
    """Return ``[C]`` when ``array``, broadcast from the right, varies along axis 1 of ``rank`` at most."""
    if array.ndim > rank:
        return None
    shape = (1,) * (rank - array.ndim) + array.shape
    if shape[1] not in (1, channels) or any(dim != 1 for axis, dim in enumerate(shape) if axis != 1):
        return None
    return np.broadcast_to(array.astype(np.float64).reshape(-1), (channels,))
