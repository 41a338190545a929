"""Convolutions with channels last: constants packed, and what follows them taken in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qcompiler.backends.tvm.kernels.conv_epilogue import Codes, ConvEpilogue, Numbers
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.layout import (
    Attributes,
    Imports,
    Twin,
    Twins,
    batch,
    is_image,
    move_first,
    turned,
)
from qcompiler.backends.tvm.layout_match import (
    NO_CLIP,
    Array,
    Filters,
    Tail,
    codes_read_by,
    image_sizes,
    match_tail,
    read_filters,
    unscaled,
    window_shape,
)

STEP = 4
"""Channels that an integer convolution takes at once."""


def convolution(twins: Twins, node: ir.Node, imports: Imports) -> str:
    """A Conv and all that its kernel can do behind it."""
    x, weight = node.inputs[:2]
    if x is None or weight is None or not is_image(x):
        return ""
    filters = read_filters(node, imports)
    if filters is None:
        return ""
    count, _, *taps = filters.array.shape
    shape = window_shape(node, x, count, (taps[0], taps[1]))
    if shape is None:
        return ""
    narrow = shape.channels < STEP and shape.groups == 1
    coded = filters.scale is not None and _has_codes(twins, x)
    twin = twins.of(x, channels=STEP if narrow and coded and x not in twins.found else 0)
    if twin is None:
        return ""
    coded = coded and twin.codes is not None
    if coded and twin.value.shape is not None and twin.value.shape[3] != shape.channels:
        shape, filters = _padded(shape, filters)
    tail = match_tail(node, lambda value, other: _can_add(twins, twin, value, other, imports))
    return _put_convolution(twins, node, shape, filters, twin if coded else None, tail)


def _has_codes(twins: Twins, x: ir.Value) -> bool:
    if x in twins.found:
        return twins.found[x].codes is not None
    node = x.producer()
    return node is not None and codes_read_by(node) is not None


def _padded(shape: ConvShape, filters: Filters) -> tuple[ConvShape, Filters]:
    """The same with channels that are 0, up to a whole step."""
    more = STEP - shape.channels
    array = np.pad(filters.array, ((0, 0), (0, more), (0, 0), (0, 0)))
    return replace(shape, channels=STEP), replace(filters, array=array)


def _can_add(twins: Twins, x: Twin, value: ir.Value, other: ir.Value, imports: Imports) -> bool:
    """Whether a residual is there in NHWC, and of the same sizes as what ``x`` is convolved to."""
    if not move_first(twins, other, imports):
        return False
    sizes = image_sizes(value)
    return sizes is not None and sizes == image_sizes(other) and batch(x) == batch(twins.found[other])


def _put_convolution(
    twins: Twins, node: ir.Node, shape: ConvShape, filters: Filters, x: Twin | None, tail: Tail
) -> str:
    """Pack the constants and put one node there; ``x`` are its codes where it multiplies integers."""
    residual = twins.found[tail.residual] if tail.residual is not None else None
    epilogue = _epilogue(tail, residual)
    numbers = Numbers(
        _sum_scale(filters, x),
        filters.bias,
        tail.clip,
        tail.rounded,
        unscaled(residual.codes if residual is not None else None),
        tail.clip_after,
        unscaled(tail.result),
    )
    kind, constants = _packed(shape, epilogue, filters, x, numbers)
    source = node.inputs[0]
    assert source is not None
    images = x.value if x is not None else twins.as_floats(_twin(twins, source), node)
    inputs: list[ir.Value | None] = [images, *twins.constants(str(node.name), constants)]
    if residual is not None:
        inputs.append(residual.value)
    made = make_image(
        twins, node, kind, inputs, window_facts(shape) | _steps(epilogue), tail.last, tail.result
    )
    twins.cover(node, tail.last, Twin(made.outputs[0]), made)
    return kind


def _twin(twins: Twins, value: ir.Value) -> Twin:
    found = twins.of(value)
    assert found is not None
    return found


def _sum_scale(filters: Filters, x: Twin | None) -> Array:
    if x is None or x.codes is None or filters.scale is None:
        return np.ones(1, np.float32)
    return np.float32(x.codes.scale) * filters.scale


def _epilogue(tail: Tail, residual: Twin | None) -> ConvEpilogue:
    kind = "none" if residual is None else "float" if residual.codes is None else "codes"
    return ConvEpilogue(
        clip=tail.clip != NO_CLIP,
        rounded=tail.rounded is not None,
        residual=kind,  # type: ignore[arg-type]
        codes_out=tail.result is not None,
    )


def _packed(
    shape: ConvShape, epilogue: ConvEpilogue, filters: Filters, x: Twin | None, numbers: Numbers
) -> tuple[str, dict[str, Array]]:
    """The kernel's name, and its constants by name."""
    from qcompiler.backends.tvm.cpu_features import Variant
    from qcompiler.backends.tvm.kernels import conv_float, conv_int8, depthwise

    plain, last = Variant.PLAIN, ["offset", "limits"]
    weight = filters.array
    if x is None and filters.scale is not None:
        weight = weight * filters.scale.reshape(-1, 1, 1, 1)
    zero = x.codes.zero_point if x is not None and x.codes is not None else 0
    if shape.is_depthwise:
        of_channels = depthwise.Depthwise(shape, plain, x is not None, epilogue)
        arrays = depthwise.pack(of_channels, weight, zero, numbers)
        names = ["x_zero", "weight", "start", "multiplier"] if x is not None else ["weight"]
        return "Depthwise", dict(zip(names + last, arrays, strict=True))
    if x is None:
        arrays = conv_float.pack(conv_float.ConvFloat(shape, plain, epilogue), weight, numbers)
        return "ConvFloat", dict(zip(["weight", *last], arrays, strict=True))
    arrays = conv_int8.pack(conv_int8.ConvInt8(shape, plain, epilogue), weight, zero, numbers)
    return "ConvInt8", dict(zip(["x_zero", "weight", "start", "multiplier", *last], arrays, strict=True))


def window_facts(shape: ConvShape) -> Attributes:
    return {
        "filters": shape.filters,
        "kernel": shape.kernel,
        "strides": shape.strides,
        "pads": shape.pads,
        "dilations": shape.dilations,
        "groups": shape.groups,
    }


def _steps(epilogue: ConvEpilogue) -> Attributes:
    return {
        "clip": int(epilogue.clip),
        "rounded": int(epilogue.rounded),
        "residual": epilogue.residual,
        "codes_out": int(epilogue.codes_out),
    }


def make_image(
    twins: Twins,
    node: ir.Node,
    kind: str,
    inputs: list[ir.Value | None],
    attributes: Attributes,
    last: ir.Node,
    result: Codes | None,
) -> ir.Node:
    """A private node that makes the twin of ``last``'s result."""
    images = inputs[0]
    assert images is not None
    shape = turned(last.outputs[0], batch(Twin(images)))
    dtype = "float32" if result is None else "uint8"
    return twins.make(kind, inputs, attributes, shape, dtype, name=str(node.name))
