"""How the operators around convolutions are computed with channels last: one rule an operator, or a family of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.backends.tvm.kernels.conv_epilogue import REAL, Codes
from qcompiler.backends.tvm.kernels.conv_shape import ConvShape
from qcompiler.backends.tvm.layout import LAST, Array, Imports, Rule, Twin, Twins, batch, is_image, turned
from qcompiler.backends.tvm.layout_conv import convolution, make_image, window_facts
from qcompiler.backends.tvm.layout_match import (
    IMAGE_RANK,
    codes_made_by,
    codes_read_by,
    image_sizes,
    integer,
    only_reader,
    unscaled,
    window_shape,
)
from qcompiler.graph.weighted import array_of, is_constant


def pooling(twins: Twins, node: ir.Node, imports: Imports) -> str:
    """MaxPool, AveragePool and their global forms: codes to codes where they are quantized behind it."""
    del imports
    x, sizes = node.inputs[0], image_sizes(node.inputs[0]) if node.inputs[0] is not None else None
    if x is None or sizes is None or (len(node.outputs) > 1 and list(node.outputs[1].uses())):
        return ""
    channels, *image = sizes
    whole = node.op_type.startswith("Global")
    shape = window_shape(node, x, channels, (image[0], image[1]) if whole else None)
    twin = twins.of(x) if shape is not None else None
    if shape is None or twin is None:
        return ""
    if node.op_type.endswith("MaxPool"):
        inputs: list[ir.Value | None] = [twin.value]
        attributes = window_facts(shape) | {"kind": "max", "codes_out": int(_is_codes(twin))}
        made = make_image(twins, node, "Pool", inputs, attributes, node, REAL if _is_codes(twin) else None)
        twins.cover(node, node, Twin(made.outputs[0], twin.codes), made)
        return "Pool"
    return _put_mean(twins, node, shape, twin)


def _is_codes(twin: Twin) -> bool:
    return twin.value.dtype == ir.DataType.UINT8


def _put_mean(twins: Twins, node: ir.Node, shape: ConvShape, twin: Twin) -> str:
    from qcompiler.backends.tvm.kernels.pool import Pool, pack

    quantize = only_reader(node.outputs[0])
    result = None if quantize is None else codes_made_by(quantize)
    last = quantize if quantize is not None and result is not None else node
    counted = _declared_pads(node) if integer(node, "count_include_pad", 0) else (0, 0, 0, 0)
    coded = twin.codes is not None
    arrays = pack(
        Pool(shape, "mean", coded, result is not None), counted, unscaled(twin.codes), unscaled(result)
    )
    names = ["x_zero", "share", "line"] if coded else ["share", "line"]
    constants = twins.constants(str(node.name), dict(zip(names, arrays, strict=True)))
    attributes = window_facts(shape) | {"kind": "mean", "codes_out": int(result is not None)}
    made = make_image(twins, node, "Pool", [twin.value, *constants], attributes, last, result)
    twins.cover(node, last, Twin(made.outputs[0]), made)
    return "Pool"


def _declared_pads(node: ir.Node) -> tuple[int, int, int, int]:
    given = node.attributes.get("pads")
    top, left, bottom, right = (0, 0, 0, 0) if given is None else given.as_ints()
    return int(top), int(left), int(bottom), int(right)


def dequantize(twins: Twins, node: ir.Node, imports: Imports) -> str:
    """Nothing is computed: the codes are the twin."""
    del imports
    codes, source = codes_read_by(node), node.inputs[0]
    if codes is None or source not in twins.found:
        return ""
    twins.cover(node, node, Twin(twins.found[source].value, codes), None)
    return node.op_type


def quantize(twins: Twins, node: ir.Node, imports: Imports) -> str:
    """Codes stay what they are where they are quantized as they were."""
    codes, source = codes_made_by(node), node.inputs[0]
    if codes is None or source not in twins.found:
        return ""
    twin = twins.found[source]
    if twin.codes == codes:
        twins.cover(node, node, Twin(twin.value), None)
        return node.op_type
    return elementwise(twins, node, imports)


def elementwise(twins: Twins, node: ir.Node, imports: Imports) -> str:
    """The same operator on twins; constants of one number, or of one a channel."""
    del imports
    images = [v for v in node.inputs if v is not None and is_image(v) and not is_constant(v)]
    if not images or any(value not in twins.found for value in images) or not is_image(node.outputs[0]):
        return ""
    others = {
        value: _last_axis(twins, value) for value in node.inputs if value is not None and value not in images
    }
    if None in others.values():
        return ""
    inputs: list[ir.Value | None] = []
    for value in node.inputs:
        if value is None:
            inputs.append(None)
        else:
            made = others.get(value) or twins.as_floats(twins.found[value], node)
            inputs.append(made)
    dtype = "uint8" if node.op_type == "QuantizeLinear" else "float32"
    return _put_standard(twins, node, twins.found[images[0]], inputs, dtype, None)


def _last_axis(twins: Twins, value: ir.Value) -> ir.Value | None:
    """A constant of one number as it is, and one a channel without the axes behind it; None for others."""
    if not is_constant(value):
        return None
    array = array_of(value)
    if array.size == 1 and array.ndim <= 1:
        return value
    full = (1,) * (IMAGE_RANK - array.ndim) + array.shape
    if array.ndim > IMAGE_RANK or array.ndim == 0 or any(full[axis] != 1 for axis in (0, 2, 3)):
        return None
    return twins.constants(f"{value.name}", {"last": array.reshape(-1)})[0]


def _put_standard(
    twins: Twins,
    node: ir.Node,
    first: Twin,
    inputs: list[ir.Value | None],
    dtype: str,
    codes: Codes | None,
    axis: int | None = None,
) -> str:
    """The same standard node on twins."""
    shape = turned(node.outputs[0], batch(first))
    made = twins.make(node.op_type, inputs, {}, shape, dtype, name=str(node.name), domain="")
    for attribute in node.attributes.values():
        made.attributes.add(attribute)
    if axis is not None:
        made.attributes.add(ir.AttrInt64("axis", axis))
    twins.cover(node, node, Twin(made.outputs[0], codes), made)
    return node.op_type


def sliced(twins: Twins, node: ir.Node, imports: Imports) -> str:
    """Slice along constant axes: codes stay codes."""
    del imports
    source = node.inputs[0]
    if source not in twins.found or len(node.inputs) < 4 or not all(is_constant(v) for v in node.inputs[1:]):
        return ""
    twin, axes = twins.found[source], node.inputs[3]
    assert axes is not None
    if any(int(axis) % IMAGE_RANK == 0 for axis in array_of(axes)):
        return ""
    places = np.array([LAST.index(int(axis) % IMAGE_RANK) for axis in array_of(axes)], np.int64)
    moved = twins.constants(str(node.name), {"axes_last": places})
    inputs = [twin.value, *node.inputs[1:3], *moved, *node.inputs[4:]]
    return _put_standard(twins, node, twin, inputs, "uint8" if _is_codes(twin) else "float32", twin.codes)


def padded(twins: Twins, node: ir.Node, imports: Imports) -> str:
    """Pad with a constant: codes stay codes, padded with the code of 0."""
    del imports
    source, mode = node.inputs[0], node.attributes.get("mode")
    if source not in twins.found or (mode is not None and mode.as_string() != "constant"):
        return ""
    if len(node.inputs) > 3 or not all(v is None or is_constant(v) for v in node.inputs[1:]):
        return ""
    twin, amounts = twins.found[source], node.inputs[1]
    fill = node.inputs[2] if len(node.inputs) > 2 else None
    if amounts is None or (twin.codes is not None and fill is not None and np.any(array_of(fill))):
        return ""
    given = array_of(amounts).reshape(2, IMAGE_RANK)[:, list(LAST)]
    if given[:, 0].any():
        return ""
    constants: dict[str, Array] = {"pads_last": given.reshape(-1).astype(np.int64)}
    if twin.codes is not None:
        constants["fill"] = np.array(twin.codes.zero_point, np.uint8)
    inputs = [twin.value, *twins.constants(str(node.name), constants)]
    if twin.codes is None and fill is not None:
        inputs.append(fill)
    return _put_standard(
        twins, node, twin, list(inputs), "uint8" if _is_codes(twin) else "float32", twin.codes
    )


def concatenated(twins: Twins, node: ir.Node, imports: Imports) -> str:
    """Concat along the channels, of codes where all stand for the same values."""
    del imports
    found = [twins.found.get(value) for value in node.inputs if value is not None]
    first, images = found[0], [twin for twin in found if twin is not None]
    if first is None or len(images) < len(found) or integer(node, "axis", 0) % IMAGE_RANK != 1:
        return ""
    same = all(twin.codes == first.codes for twin in images)
    kept = same and (first.codes is not None or all(_is_codes(twin) for twin in images))
    inputs: list[ir.Value | None] = [twin.value if kept else twins.as_floats(twin, node) for twin in images]
    dtype, codes = ("uint8", first.codes) if kept else ("float32", None)
    return _put_standard(twins, node, first, inputs, dtype, codes, axis=LAST.index(1))


_SAME: tuple[str, ...] = (
    "Abs", "Add", "Clip", "Div", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "LeakyRelu", "Mul", "Neg", "Relu",
    "Sigmoid", "Softplus", "Sqrt", "Sub", "Tanh",
)  # fmt: skip

RULES: dict[str, Rule] = {
    "Conv": convolution,
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"), pooling),
    "DequantizeLinear": dequantize,
    "QuantizeLinear": quantize,
    "Slice": sliced,
    "Pad": padded,
    "Concat": concatenated,
    **dict.fromkeys(_SAME, elementwise),
}
