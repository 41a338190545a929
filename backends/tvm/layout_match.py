"""Reading convolutions and what follows them out of a graph: everything that one kernel can do at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.onnxruntime.constant_value import constant_value
from qcompiler.backends.tvm.kernels.conv_epilogue import REAL, Codes
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.graph.weighted import array_of, is_constant

Array = npt.NDArray[Any]
Clip = tuple[float, float]
NO_CLIP: Clip = (-np.inf, np.inf)
IMAGE_RANK = 4


@dataclass(frozen=True)
class Tail:
    """What follows a convolution.

    Attributes:
        last: node whose result is the kernel's.
        clip: of the sums.
        rounded: codes that they become before the residual is added.
        residual: what is added, or None.
        clip_after: of the sum with the residual.
        result: codes that come out, or None for floats.
        inside: values that exist only within the kernel.
    """

    last: ir.Node
    clip: Clip = NO_CLIP
    rounded: Codes | None = None
    residual: ir.Value | None = None
    clip_after: Clip = NO_CLIP
    result: Codes | None = None


def match_tail(node: ir.Node, can_add: Callable[[ir.Value, ir.Value], bool]) -> Tail:
    """Follow the only readers of a result as far as a kernel can.

    Args:
        node: whose result it is.
        can_add: whether the second value can be added to the first within the kernel.
    """
    first, clip = _clipped(node)
    quantize = only_reader(first.outputs[0])
    codes = None if quantize is None else codes_made_by(quantize)
    if quantize is None or codes is None:
        add, other = _addition(first.outputs[0], can_add)
        if add is None:
            return Tail(first, clip)
        return _after(add, Tail(first, clip, None, other))
    dequantize = only_reader(quantize.outputs[0])
    if dequantize is not None and codes_read_by(dequantize) == codes:
        add, other = _addition(dequantize.outputs[0], can_add)
        if add is not None:
            return _after(add, Tail(first, clip, codes, other))
    return Tail(quantize, clip, result=codes)


def _after(add: ir.Node, tail: Tail) -> Tail:
    last, clip = _clipped(add)
    quantize = only_reader(last.outputs[0])
    codes = None if quantize is None else codes_made_by(quantize)
    end = last if quantize is None or codes is None else quantize
    return Tail(end, tail.clip, tail.rounded, tail.residual, clip, codes)


def _addition(
    value: ir.Value, can_add: Callable[[ir.Value, ir.Value], bool]
) -> tuple[ir.Node | None, ir.Value | None]:
    add = only_reader(value)
    if add is None or add.op_type != "Add" or add.domain:
        return None, None
    left, right = add.inputs
    other = right if left is value else left
    if other is None or other is value or not can_add(value, other):
        return None, None
    return add, other


def _clipped(node: ir.Node) -> tuple[ir.Node, Clip]:
    """The Relu or Clip behind a node, if it is alone there."""
    reader = only_reader(node.outputs[0])
    found = None if reader is None else clip_of(reader)
    return (node, NO_CLIP) if reader is None or found is None else (reader, found)


def clip_of(node: ir.Node) -> Clip | None:
    """Least and largest result of a Relu or a Clip with constant bounds."""
    if node.op_type == "Relu" and not node.domain:
        return 0.0, np.inf
    if node.op_type != "Clip" or node.domain:
        return None
    bounds: list[float] = list(NO_CLIP)
    for index, value in enumerate(node.inputs[1:3]):
        if value is not None:
            if not is_constant(value):
                return None
            bounds[index] = float(array_of(value).item())
    return bounds[0], bounds[1]


def only_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, which nothing else does."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def codes_made_by(node: ir.Node) -> Codes | None:
    """Codes of a QuantizeLinear to uint8 with one constant scale."""
    return _codes(node) if node.op_type == "QuantizeLinear" and len(node.inputs) == 3 else None


def codes_read_by(node: ir.Node) -> Codes | None:
    """Codes of a DequantizeLinear of uint8 with one constant scale."""
    return _codes(node) if node.op_type == "DequantizeLinear" and len(node.inputs) == 3 else None


def _codes(node: ir.Node) -> Codes | None:
    _, scale, zero = node.inputs
    if node.domain or scale is None or zero is None or not is_constant(scale) or not is_constant(zero):
        return None
    step, code = array_of(scale), array_of(zero)
    if zero.dtype != ir.DataType.UINT8 or step.size != 1 or code.size != 1:
        return None
    return Codes(float(step.item()), int(code.item()))


@dataclass(frozen=True)
class Filters:
    """Weights of a convolution.

    Attributes:
        array: int8 codes, or float32 values where they are not symmetric int8.
        scale: float32 ``[F]`` of codes, or None.
        bias: float32 ``[F]`` or None.
    """

    array: Array
    scale: npt.NDArray[np.float32] | None
    bias: npt.NDArray[np.float32] | None


def read_filters(node: ir.Node, opset_imports: dict[str, int]) -> Filters | None:
    """Constant weights and bias of a Conv; None where they depend on an input."""
    weight = node.inputs[1]
    assert weight is not None
    bias = None
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        found = constant_value(node.inputs[2], opset_imports)
        if found is None:
            return None
        bias = found.astype(np.float32).reshape(-1)
    coded = _int8_filters(weight, opset_imports)
    if coded is not None:
        return Filters(*coded, bias)
    values = constant_value(weight, opset_imports)
    return None if values is None else Filters(values.astype(np.float32), None, bias)


def _int8_filters(
    weight: ir.Value, opset_imports: dict[str, int]
) -> tuple[Array, npt.NDArray[np.float32]] | None:
    node = weight.producer()
    if node is None or node.op_type != "DequantizeLinear" or node.domain or "block_size" in node.attributes:
        return None
    codes = node.inputs[0]
    rest = [None if item is None else constant_value(item, opset_imports) for item in node.inputs[1:]]
    if codes is None or not is_constant(codes) or codes.dtype != ir.DataType.INT8 or rest[0] is None:
        return None
    array, scale = array_of(codes), rest[0].astype(np.float32)
    if len(rest) > 1 and (rest[1] is None or np.any(rest[1])):
        return None
    if scale.size > 1 and integer(node, "axis", 1) != 0:
        return None
    return array, np.broadcast_to(scale.reshape(-1), (len(array),)).copy()


def window_shape(
    node: ir.Node, value: ir.Value, filters: int, kernel: tuple[int, int] | None
) -> ConvShape | None:
    """Sizes of a Conv or a pooling of images; None where they are not known before the model runs.

    Args:
        value: the images, ``[N, C, H, W]``.
        filters: channels of the result.
        kernel: of a Conv, from its weight; None for the attribute.
    """
    sizes = image_sizes(value)
    taps = kernel or pair(node, "kernel_shape")
    if sizes is None or taps is None:
        return None
    channels, height, width = sizes
    strides, dilations = pair(node, "strides") or (1, 1), pair(node, "dilations") or (1, 1)
    pads = _pads(node, (height, width), taps, strides, dilations)
    if integer(node, "ceil_mode", 0):
        pads = _rounded_up(pads, (height, width), taps, strides, dilations)
    groups = integer(node, "group", 1)
    return ConvShape(height, width, channels, filters, taps, strides, pads, dilations, groups)


def image_sizes(value: ir.Value) -> tuple[int, int, int] | None:
    """Channels, height and width of ``[N, C, H, W]`` where they are known."""
    if value.shape is None or len(value.shape) != IMAGE_RANK:
        return None
    found = tuple(size if isinstance(size, int) else None for size in value.shape[1:])
    return None if None in found else found  # type: ignore[return-value]


def _pads(
    node: ir.Node,
    sizes: tuple[int, int],
    taps: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
) -> tuple[int, int, int, int]:
    attribute = node.attributes.get("auto_pad")
    kind = "NOTSET" if attribute is None else attribute.as_string()
    if kind == "VALID":
        return 0, 0, 0, 0
    if kind == "NOTSET":
        given = node.attributes.get("pads")
        top, left, bottom, right = (0, 0, 0, 0) if given is None else given.as_ints()
        return int(top), int(left), int(bottom), int(right)
    begins, ends = [], []
    for size, tap, stride, dilation in zip(sizes, taps, strides, dilations, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + (tap - 1) * dilation + 1 - size)
        small, large = total // 2, total - total // 2
        begins.append(small if kind == "SAME_UPPER" else large)
        ends.append(large if kind == "SAME_UPPER" else small)
    return begins[0], begins[1], ends[0], ends[1]


def _rounded_up(
    pads: tuple[int, int, int, int],
    sizes: tuple[int, int],
    taps: tuple[int, int],
    strides: tuple[int, int],
    dilations: tuple[int, int],
) -> tuple[int, int, int, int]:
    """More padding behind, so that the last window that begins within the image has a result."""
    ends = []
    for axis in range(2):
        padded = sizes[axis] + pads[axis] + pads[axis + 2]
        span = (taps[axis] - 1) * dilations[axis] + 1
        results = -(-(padded - span) // strides[axis]) + 1
        if (results - 1) * strides[axis] >= sizes[axis] + pads[axis]:
            results -= 1
        ends.append(max(pads[axis + 2], (results - 1) * strides[axis] + span - sizes[axis] - pads[axis]))
    return pads[0], pads[1], ends[0], ends[1]


def pair(node: ir.Node, name: str) -> tuple[int, int] | None:
    """An attribute of two integers."""
    attribute = node.attributes.get(name)
    if attribute is None or len(attribute.as_ints()) != 2:
        return None
    first, second = attribute.as_ints()
    return int(first), int(second)


def integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def unscaled(codes: Codes | None) -> Codes:
    """``codes``, or those of values that stand for themselves."""
    return REAL if codes is None else codes
