"""The channels of a weight, whatever its layout and grouping: their magnitudes, and the weight with them scaled.

A grouped convolution stores the input channels of one group only (``[M, C/g, k...]``), a grouped transposed one
the output channels of one group (``[C, M/g, k...]``).  Here both are seen with all their channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from qcompiler.graph.weighted import WeightedNode

Array = npt.NDArray[np.floating[Any]]


def input_magnitude(view: WeightedNode, weight: Array) -> Array:
    """Largest magnitude per input channel, ``[C]``; ``weight`` is laid out as ``view.weight``."""
    return _magnitude(weight, _input_axis(view), view.group if view.node.op_type == "Conv" else 1)


def output_magnitude(view: WeightedNode, weight: Array) -> Array:
    """Largest magnitude per output channel, ``[N]``; ``weight`` is laid out as ``view.weight``."""
    return _magnitude(weight, view.output_axis, view.group if view.node.op_type == "ConvTranspose" else 1)


def with_inputs_scaled(view: WeightedNode, weight: Array, factor: Array) -> Array:
    """``weight`` with every input channel multiplied by its entry of ``factor [C]``."""
    return _scaled(weight, _input_axis(view), view.group if view.node.op_type == "Conv" else 1, factor)


def with_outputs_scaled(view: WeightedNode, weight: Array, factor: Array) -> Array:
    """``weight`` with every output channel multiplied by its entry of ``factor [N]``."""
    group = view.group if view.node.op_type == "ConvTranspose" else 1
    return _scaled(weight, view.output_axis, group, factor)


def output_channels(view: WeightedNode) -> int:
    """How many output channels a weighted node has, over all groups."""
    shape = view.array().shape
    return int(shape[view.output_axis]) * (view.group if view.node.op_type == "ConvTranspose" else 1)


def input_channels(view: WeightedNode) -> int:
    """How many input channels a weighted node has, over all groups."""
    shape = view.array().shape
    return int(shape[_input_axis(view)]) * (view.group if view.node.op_type == "Conv" else 1)


def _input_axis(view: WeightedNode) -> int:
    if view.input_axis is None:
        raise AssertionError(f"{view.name} looks its weight up and has no input channels")
    return view.input_axis


def _grouped(weight: Array, axis: int, group: int) -> Array:
    """``[group, channels of a group, everything else]``.

    Axis 0 holds the groups one after the other where the other axis is counted within a group.
    """
    if group == 1:
        return np.moveaxis(weight, axis, 0)[np.newaxis]
    split = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
    return np.moveaxis(split, axis + 1, 1)


def _magnitude(weight: Array, axis: int, group: int) -> Array:
    channels = _grouped(weight, axis, group)
    rest = tuple(range(2, channels.ndim))
    return np.asarray(np.abs(channels).max(axis=rest, initial=0.0).reshape(-1))


def _scaled(weight: Array, axis: int, group: int, factor: Array) -> Array:
    channels = _grouped(weight, axis, group)
    shaped = factor.reshape(group, channels.shape[1], *[1] * (channels.ndim - 2))
    scaled = channels * shaped
    if group == 1:
        return np.moveaxis(scaled[0], 0, axis)
    return np.moveaxis(scaled, 1, axis + 1).reshape(weight.shape)
