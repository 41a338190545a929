"""The quantizers of activations in a lifted model: a float value, its codes, and what reads them as floats."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.graph.qdq import graph_of
from qcompiler.graph.weighted import array_of, is_constant

_CODES = frozenset({ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16})
EXPOSED = "_exposed_read"
"""End of the names of nodes that only let codes be read as floats."""

_TO_FLOAT = ("DequantizeLinear", "Cast")

QUANTIZERS = ("QuantizeLinear", "DynamicQuantizeLinear")


@dataclass(frozen=True)
class Affine:
    """One scale and zero point for a tensor.

    Attributes:
        scale: positive.
        zero_point: the code of zero.
        limits: smallest and largest code, inclusive.
    """

    scale: float
    zero_point: int
    limits: tuple[int, int]

    @property
    def low(self) -> float:
        return (self.limits[0] - self.zero_point) * self.scale

    @property
    def high(self) -> float:
        return (self.limits[1] - self.zero_point) * self.scale


@dataclass(frozen=True)
class Quantizer:
    """A value that a lifted model quantizes.

    Attributes:
        before: the float value.
        codes: its codes.
        behind: the float values that its codes are read as.
        written: constant parameters of QuantizeLinear; None where they are computed or one per channel.
        read: those of the first DequantizeLinear.
    """

    before: ir.Value
    codes: ir.Value
    behind: tuple[ir.Value, ...]
    written: Affine | None
    read: Affine | None

    @property
    def readers(self) -> list[ir.Node]:
        """Nodes that read the dequantized value."""
        return list(dict.fromkeys(use.node for value in self.behind for use in value.uses()))


def quantizers(model: ir.Model) -> list[Quantizer]:
    """Quantizers of the main graph, in its order."""
    found = []
    for node in model.graph:
        if node.op_type not in QUANTIZERS or node.inputs[0] is None or is_constant(node.inputs[0]):
            continue
        codes = node.outputs[0]
        readers = [
            use.node for use in codes.uses() if use.node.op_type == "DequantizeLinear" and use.idx == 0
        ]
        behind = tuple(dict.fromkeys(reader.outputs[0] for reader in readers))
        written = affine_of(node) if node.op_type == "QuantizeLinear" else None
        read = affine_of(readers[0]) if readers else None
        found.append(Quantizer(node.inputs[0], codes, behind, written, read))
    return found


def affine_of(node: ir.Node) -> Affine | None:
    """The constant parameters of a QuantizeLinear or DequantizeLinear of a whole tensor."""
    scale, zero = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or not is_constant(scale) or array_of(scale).size != 1:
        return None
    if zero is None:
        return Affine(float(array_of(scale).reshape(())), 0, (0, 255))
    if not is_constant(zero) or zero.dtype not in _CODES:
        return None
    info = np.iinfo(zero.dtype.numpy())
    return Affine(
        float(array_of(scale).reshape(())), int(array_of(zero).reshape(())), (int(info.min), int(info.max))
    )


def code_values(model: ir.Model) -> set[ir.Value]:
    """Values of the main graph that hold codes: made by a quantizer, moved from such, or read by a dequantizer."""
    found: set[ir.Value] = set()
    for node in model.graph:
        moved = node.op_type not in _TO_FLOAT and node.domain in ("", "ai.onnx") and bool(node.inputs)
        if node.op_type in QUANTIZERS or (moved and node.inputs[0] in found):
            found.update(node.outputs)
        elif node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
            found.add(node.inputs[0])
    return found


def expose_codes(model: ir.Model) -> None:
    """Put a DequantizeLinear and a QuantizeLinear behind codes that neither quantizer nor constant made.

    Both are exact, and let the value be read and replaced as a float. The parameters are those that its readers use;
    codes whose readers do not say are left.
    """
    for node in list(model.graph):
        if node.op_type in QUANTIZERS or is_constant(node.inputs[0] if node.inputs else None):
            continue  # codes that are looked up in a table are a weight, not an activation
        for codes in node.outputs:
            parameters = _parameters(codes)
            if parameters is not None:
                _expose(codes, *parameters)


def _parameters(codes: ir.Value) -> tuple[ir.Value, ir.Value | None] | None:
    """Scale and zero point that the DequantizeLinear behind codes, or behind what only moves them, uses."""
    for use in codes.uses():
        reader = use.node
        if reader.op_type == "DequantizeLinear" and use.idx == 0:
            zero = reader.inputs[2] if len(reader.inputs) > 2 else None
            scale = reader.inputs[1]
            if scale is not None and is_constant(scale) and array_of(scale).size == 1:
                return scale, zero
    return None


def _expose(codes: ir.Value, scale: ir.Value, zero: ir.Value | None) -> None:
    uses = list(codes.uses())
    parameters = [scale] if zero is None else [scale, zero]
    dequantize = ir.node("DequantizeLinear", [codes, *parameters], name=f"{codes.name}{EXPOSED}")
    before = dequantize.outputs[0]
    before.name, before.type = f"{codes.name}_exposed", ir.TensorType(ir.DataType.FLOAT)
    quantize = ir.node("QuantizeLinear", [before, *parameters], name=f"{codes.name}_exposed_write")
    again = quantize.outputs[0]
    again.name = f"{codes.name}_exposed_codes"
    producer = codes.producer()
    assert producer is not None
    graph_of(codes).insert_after(producer, [dequantize, quantize])
    for use in uses:
        use.node.replace_input_with(use.idx, again)
