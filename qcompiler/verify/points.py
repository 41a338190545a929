"""Where two models can be looked at side by side: values that mean the same in both.

A value ``v`` that a model quantizes is read behind its QuantizeLinear and DequantizeLinear, so that its own rounding
counts. Where the runtime has fused these into an integer kernel only the codes are left: they are read and
dequantized with the scale and zero point that the other model holds for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.data.feeds import Array
from qcompiler.graph.weighted import array_of, is_constant
from qcompiler.numerics.affine import dequantize

_SIGN_SHIFT = 128


@dataclass(frozen=True)
class Codes:
    """Scale and zero point of a whole tensor of int8 or uint8 codes."""

    scale: float
    zero_point: int
    signed: bool

    def values(self, codes: Array) -> Array:
        """float32 values; a runtime that turned int8 codes into uint8 has shifted them by 128."""
        shift = _SIGN_SHIFT * ((codes.dtype == np.uint8) - (not self.signed))
        return dequantize(codes, np.float32(self.scale), self.zero_point + shift)


@dataclass(frozen=True)
class Quantized:
    """A value that a model quantizes with constant parameters.

    Attributes:
        source: name of the float value.
        codes_name: name of its codes.
        restored: name of the dequantized value, or None where nothing dequantizes it.
    """

    source: str
    codes_name: str
    restored: str | None
    codes: Codes


@dataclass(frozen=True)
class Point:
    """One place to look at.

    Attributes:
        label: name of the value, as the reference calls it.
        a: value to read in the first model.
        b: value to read in the second.
        decode: how to turn what is read in the second into floats, where it holds codes.
    """

    label: str
    a: str
    b: str
    decode: Codes | None = None


def quantized_values(model: ir.Model) -> dict[str, Quantized]:
    """Values of the main graph that go through a QuantizeLinear of one constant scale, by name."""
    found: dict[str, Quantized] = {}
    for node in model.graph:
        codes = _codes(node)
        if codes is None or node.inputs[0] is None:
            continue
        output = node.outputs[0]
        readers = [use.node for use in output.uses() if use.node.op_type == "DequantizeLinear"]
        restored = str(readers[0].outputs[0].name) if readers else None
        source = str(node.inputs[0].name)
        found.setdefault(source, Quantized(source, str(output.name), restored, codes))
    return found


def _codes(node: ir.Node) -> Codes | None:
    if node.op_type != "QuantizeLinear" or node.domain not in ("", "ai.onnx", "com.microsoft"):
        return None
    scale, zero_point = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
    if scale is None or not is_constant(scale) or array_of(scale).size != 1:
        return None
    if zero_point is None:
        return Codes(float(array_of(scale).reshape(())), 0, signed=False)
    if not is_constant(zero_point) or zero_point.dtype not in (ir.DataType.INT8, ir.DataType.UINT8):
        return None
    zero = int(array_of(zero_point).reshape(()))
    return Codes(float(array_of(scale).reshape(())), zero, signed=zero_point.dtype == ir.DataType.INT8)


def shared_points(
    a: Mapping[str, ir.Value],
    b: Mapping[str, ir.Value],
    quantized_a: Mapping[str, Quantized],
    quantized_b: Mapping[str, Quantized],
) -> list[Point]:
    """Values of the same name in both, each read behind its quantization where it has one; in the order of ``a``."""
    behind_a, behind_b = _restored(quantized_a, a), _restored(quantized_b, b)
    twice = set(behind_a.values()) & set(behind_b.values())
    return [
        Point(name, behind_a.get(name, name), behind_b.get(name, name))
        for name in a
        if name in b and name not in twice
    ]


def lowered_points(
    dialect: Mapping[str, ir.Value], quantized: Mapping[str, Quantized], deployed: Iterable[str]
) -> list[Point]:
    """Values of the dialect that the graph a runtime made of it still holds, as floats or as codes."""
    there, points = set(deployed), []
    made_for_codes = {name for item in quantized.values() for name in (item.restored, item.codes_name)}
    of_inputs = [name for name in quantized if name not in dialect]
    for name in (*of_inputs, *dialect):
        item = quantized.get(name)
        point = None if item is None else _behind_quantization(item, dialect, there)
        if point is None and name in there and name in dialect and name not in made_for_codes:
            point = Point(name, name, name)
        if point is not None:
            points.append(point)
    return points


def _behind_quantization(item: Quantized, dialect: Mapping[str, ir.Value], there: set[str]) -> Point | None:
    if item.restored is None:
        return None
    label = item.restored if dialect[item.restored].is_graph_output() else item.source
    if item.codes_name in there:
        return Point(label, item.restored, item.codes_name, item.codes)
    return Point(label, item.restored, item.restored) if item.restored in there else None


def _restored(quantized: Mapping[str, Quantized], values: Mapping[str, ir.Value]) -> dict[str, str]:
    return {
        item.source: item.restored
        for item in quantized.values()
        if item.restored is not None and not values[item.restored].is_graph_output()
    }
