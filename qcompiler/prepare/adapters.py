"""What changed between opset 7 and 25 so that a node must be written differently.

Each adapter belongs to the last version before the change.  It writes the nodes that compute the same in the next
version on a tape, the one that makes the output last, or nothing when the node may stay as it is.
Source: https://github.com/onnx/onnx/blob/main/docs/Changelog.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

Adapter = Callable[[ir.Node, Tape], None]


class UnconvertibleError(Exception):
    """A node has no equivalent in the next opset; the message tells why."""


def rewrite(
    node: ir.Node,
    tape: Tape,
    inputs: list[ir.Value | None],
    drop: tuple[str, ...] = (),
    op_type: str | None = None,
    add: Mapping[str, int | str] | None = None,
) -> None:
    """Write ``node`` again with other inputs, without the attributes ``drop`` and with those in ``add``."""
    attributes = {name: attribute for name, attribute in node.attributes.items() if name not in drop}
    attributes |= {name: ir.convenience.convert_attribute(name, value) for name, value in (add or {}).items()}
    tape.op_multi_out(
        op_type or node.op_type, inputs, attributes=attributes, num_outputs=len(node.outputs), name=node.name
    )


def constant(tape: Tape, array: object, dtype: np.dtype[np.generic] | type = np.int64) -> ir.Value:
    """Return a Constant; it is lifted to an initializer later."""
    return tape.op("Constant", [], attributes={"value": ir.tensor(np.asarray(array, dtype=dtype))})


def input_at(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _attribute_to_input(name: str, index: int = 1) -> Adapter:
    """Return an adapter for a list or number of integers that became an input."""

    def adapt(node: ir.Node, tape: Tape) -> None:
        attribute = node.attributes.get(name)
        if attribute is None:
            return
        inputs = [input_at(node, i) for i in range(index)]
        rewrite(node, tape, [*inputs, constant(tape, attribute.value)], drop=(name,))

    return adapt


def _batchnorm_spatial(node: ir.Node, tape: Tape) -> None:
    attribute = node.attributes.get("spatial")
    if attribute is None:
        return
    if attribute.as_int() != 1:
        raise UnconvertibleError("normalizes every position on its own (spatial=0), which opset 9 dropped")
    rewrite(node, tape, list(node.inputs), drop=("spatial",))


def _batchnorm_training(node: ir.Node, tape: Tape) -> None:
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        raise UnconvertibleError("is in training mode")
    if len(node.outputs) > 1:
        tape.op("BatchNormalization", list(node.inputs), attributes=dict(node.attributes), name=node.name)


def _upsample_scales(node: ir.Node, tape: Tape) -> None:
    scales = constant(tape, node.attributes["scales"].value, np.float32)
    rewrite(node, tape, [node.inputs[0], scales], drop=("scales",))


def _upsample_is_resize(node: ir.Node, tape: Tape) -> None:
    rewrite(node, tape, list(node.inputs), op_type="Resize")


def _resize_roi(node: ir.Node, tape: Tape) -> None:
    inputs = [node.inputs[0], None, node.inputs[1]]
    rewrite(node, tape, inputs, add={"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"})


def _slice_inputs(node: ir.Node, tape: Tape) -> None:
    starts, ends = node.attributes["starts"].as_ints(), node.attributes["ends"].as_ints()
    axes = node.attributes["axes"].as_ints() if "axes" in node.attributes else range(len(starts))
    inputs = [node.inputs[0], *(constant(tape, list(values)) for values in (starts, ends, axes))]
    rewrite(node, tape, inputs, drop=("starts", "ends", "axes"))


def _topk_input(node: ir.Node, tape: Tape) -> None:
    rewrite(node, tape, [node.inputs[0], constant(tape, [node.attributes["k"].as_int()])], drop=("k",))


def _clip_inputs(node: ir.Node, tape: Tape) -> None:
    dtype = _float_type(node)
    limits = [
        constant(tape, node.attributes[name].as_float(), dtype) if name in node.attributes else None
        for name in ("min", "max")
    ]
    rewrite(node, tape, [node.inputs[0], *limits], drop=("min", "max"))


def _pad_inputs(node: ir.Node, tape: Tape) -> None:
    pads = constant(tape, list(node.attributes["pads"].as_ints()))
    value = node.attributes["value"].as_float() if "value" in node.attributes else 0.0
    rewrite(
        node, tape, [node.inputs[0], pads, constant(tape, value, _float_type(node))], drop=("pads", "value")
    )


def _scatter_elements(node: ir.Node, tape: Tape) -> None:
    rewrite(node, tape, list(node.inputs), op_type="ScatterElements")


def _dropout_ratio(node: ir.Node, tape: Tape) -> None:
    if "ratio" in node.attributes:
        rewrite(node, tape, list(node.inputs), drop=("ratio",))


def _softmax_axis(node: ir.Node, tape: Tape) -> None:
    """Up to opset 12 all dimensions from ``axis`` (default 1) on were one; since 13 only ``axis`` counts."""
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    x, shape = node.inputs[0], node.inputs[0].shape if node.inputs[0] is not None else None
    rank = None if shape is None else len(shape)
    if axis == -1 or (rank is not None and axis % max(rank, 1) == rank - 1):
        rewrite(node, tape, [x], drop=("axis",), add={"axis": -1})
    elif shape is not None and all(dim == 1 for dim in list(shape)[axis % len(shape) + 1 :]):
        rewrite(node, tape, [x], drop=("axis",), add={"axis": axis})
    else:
        flat = tape.op("Flatten", [x], attributes={"axis": axis})
        made = tape.op(node.op_type, [flat], attributes={"axis": -1})
        tape.op("Reshape", [made, tape.op("Shape", [x])])


def _roialign_mode(node: ir.Node, tape: Tape) -> None:
    rewrite(node, tape, list(node.inputs), add={"coordinate_transformation_mode": "output_half_pixel"})


def _split_count(node: ir.Node, tape: Tape) -> None:
    if input_at(node, 1) is None:
        rewrite(node, tape, [node.inputs[0]], add={"num_outputs": len(node.outputs)})


def _dft_axis(node: ir.Node, tape: Tape) -> None:
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    rewrite(node, tape, [node.inputs[0], input_at(node, 1), constant(tape, axis)], drop=("axis",))


def _gridsample_mode(node: ir.Node, tape: Tape) -> None:
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "bilinear"
    renamed = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    rewrite(node, tape, list(node.inputs), drop=("mode",), add={"mode": renamed})


def _groupnorm_channels(node: ir.Node, tape: Tape) -> None:
    """Up to opset 20 there was one scale a group, since 21 one a channel."""
    x = node.inputs[0]
    channels = x.shape[1] if x is not None and x.shape is not None and len(x.shape) > 1 else None
    groups = node.attributes["num_groups"].as_int()
    if not isinstance(channels, int):
        raise UnconvertibleError("has an unknown number of channels")
    inputs = [x]
    for value in node.inputs[1:3]:
        column = tape.op("Reshape", [value, constant(tape, [groups, 1])])
        spread = tape.op("Expand", [column, constant(tape, [groups, channels // groups])])
        inputs.append(tape.op("Reshape", [spread, constant(tape, [channels])]))
    rewrite(node, tape, inputs)


def _scan(node: ir.Node, tape: Tape) -> None:
    raise UnconvertibleError("has a batch dimension of its own, which opset 9 dropped")


def _float_type(node: ir.Node) -> np.dtype[np.generic]:
    """Return the type of the first input; float32 where inference could not tell, as nearly always."""
    value = node.inputs[0]
    return np.dtype(np.float32) if value is None or value.dtype is None else value.dtype.numpy()


_REDUCTIONS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")

ADAPTERS: Mapping[tuple[str, int], Adapter] = {
    ("BatchNormalization", 8): _batchnorm_spatial,
    ("Upsample", 8): _upsample_scales,
    ("Scan", 8): _scan,
    ("Slice", 9): _slice_inputs,
    ("TopK", 9): _topk_input,
    ("Upsample", 9): _upsample_is_resize,
    ("Clip", 10): _clip_inputs,
    ("Pad", 10): _pad_inputs,
    ("Resize", 10): _resize_roi,
    ("Scatter", 10): _scatter_elements,
    ("Dropout", 11): _dropout_ratio,
    ("Squeeze", 12): _attribute_to_input("axes"),
    ("Unsqueeze", 12): _attribute_to_input("axes"),
    ("Split", 12): _attribute_to_input("split"),
    ("ReduceSum", 12): _attribute_to_input("axes"),
    ("Softmax", 12): _softmax_axis,
    ("LogSoftmax", 12): _softmax_axis,
    ("Hardmax", 12): _softmax_axis,
    ("BatchNormalization", 13): _batchnorm_training,
    ("RoiAlign", 15): _roialign_mode,
    ("Split", 17): _split_count,
    **{(f"Reduce{kind}", 17): _attribute_to_input("axes") for kind in _REDUCTIONS},
    ("DFT", 19): _dft_axis,
    ("GridSample", 19): _gridsample_mode,
    ("GroupNormalization", 20): _groupnorm_channels,
}
"""By operator and the last opset before the change."""
