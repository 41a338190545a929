"""Products by weights of few bits become one kernel that rounds activations to int8 per row and group.

Formats whose levels fit a table of bytes are computed as they are; others (float tables that no 16 bytes hold) are
left to their reference semantics, and reported.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.backends.onnxruntime.low_bit_product import LowBitProduct, low_bit_product
from qcompiler.backends.onnxruntime.low_bit_weight import LowBitWeight, read_low_bit
from qcompiler.backends.tvm.private import behind, constants, replace
from qcompiler.graph.weighted import array_of

ROUNDING_DB = 30.0
"""Activations are rounded to int8 per row and group: 43-48 dB, less where one channel is far larger than the rest."""

_TABLE_STEPS = 127.0
"""Float levels are rounded to so many steps to either side."""


@dataclass(frozen=True)
class _Levels:
    """How the kernel reads codes.

    Attributes:
        offset: level of the weight 0.
        table: uint8 levels by code, or None where the code is the level.
        unit: what one level is worth, in units of the scale.
        exact: whether levels are what the format says.
    """

    offset: int
    table: npt.NDArray[np.uint8] | None
    unit: float = 1.0
    exact: bool = True


def lower_low_bit(model: ir.Model) -> list[Lowering]:
    """Rewrite every product by a weight of few bits in place; say what became of each, and why."""
    imports = dict(model.graph.opset_imports)
    packed: dict[tuple[ir.Node, int], tuple[list[ir.Value], dict[str, int | str], str] | str] = {}
    done = []
    for node in list(model.graph):
        product = low_bit_product(node)
        if product is not None:
            done.append(_lower(product, imports, packed))
    return done


def _lower(
    product: LowBitProduct,
    imports: dict[str, int],
    packed: dict[tuple[ir.Node, int], tuple[list[ir.Value], dict[str, int | str], str] | str],
) -> Lowering:
    from qcompiler.backends.tvm.kernels.epilogue import pack_channels

    name, key = str(product.node.name), (product.maker, product.k_axis)
    if product.reason:
        return Lowering(name, "", product.reason)
    if key not in packed:
        weight = read_low_bit(product.maker, product.k_axis, imports)
        packed[key] = weight if isinstance(weight, str) else _pack(product, weight)
    found = packed[key]
    if isinstance(found, str):
        return Lowering(name, "", found)
    values, attributes, reason = found
    inputs = [product.activation, *values]
    if product.bias is not None:
        bias = pack_channels(array_of(product.bias).astype(np.float32))
        inputs += constants(product.node.outputs[0], name, [("bias", bias)])
    made = replace(
        product.node, product.last, "GemmLowBit", inputs, attributes | {"bias": int(product.bias is not None)}
    )
    if product.addend is not None:
        behind(made, "Add", product.addend, "addend")
    return Lowering(name, "GemmLowBit", reason, rounding_db=ROUNDING_DB)


def _pack(
    product: LowBitProduct, weight: LowBitWeight
) -> tuple[list[ir.Value], dict[str, int | str], str] | str:
    from qcompiler.backends.tvm.kernels.gemm_low_bit import pack, pack_groups, pack_table

    group = weight.group if weight.scale.shape[1] > 1 else -(-weight.rows // 16) * 16
    least = max(16, 32 // weight.bits)
    if group % least:
        if group > least or least % group:
            return f"its groups of {group} are no multiple of {least}"
        return f"its groups of {group} are below {least}"
    levels = _levels(weight)
    if isinstance(levels, str):
        return levels
    codes = np.ascontiguousarray(weight.codes.T)
    scale = (weight.scale * np.float32(levels.unit)).T
    arrays: list[tuple[str, npt.NDArray[np.generic]]] = [
        ("packed", pack(codes, weight.bits, group)),
        ("packed_scale", pack_groups(np.ascontiguousarray(scale, np.float32))),
    ]
    minimum = _minimum(weight)
    if minimum is not None:
        arrays.append(("packed_minimum", pack_groups(np.ascontiguousarray(minimum.T, np.float32))))
    if levels.table is not None:
        arrays.append(("table", pack_table(levels.table)))
    bits = 8 * sum(array.nbytes for _, array in arrays) / max(weight.codes.size, 1)
    attributes: dict[str, int | str] = {
        "channels": weight.outputs,
        "depth": weight.rows,
        "bits": weight.bits,
        "group": group,
        "offset": levels.offset,
        "table": int(levels.table is not None),
        "minimum": int(minimum is not None),
    }
    grid = "" if levels.exact else ", levels rounded to int8"
    values = constants(product.node.outputs[0], str(product.maker.outputs[0].name), arrays)
    return values, attributes, f"{bits:.2f} bits a weight, groups of {group}{grid}"


def _minimum(weight: LowBitWeight) -> npt.NDArray[np.float32] | None:
    """``[N, G]``, what comes off every weight of a group: a zero point of its own is a minimum, too."""
    if weight.minimum is not None:
        return weight.minimum
    if weight.zero_point is None or weight.table is not None or _shared_zero(weight) is not None:
        return None
    return weight.scale * weight.zero_point.astype(np.float32)


def _shared_zero(weight: LowBitWeight) -> int | None:
    if weight.zero_point is None:
        return weight.middle
    first = int(weight.zero_point.flat[0])
    return first if (weight.zero_point == first).all() else None


def _levels(weight: LowBitWeight) -> _Levels | str:
    if weight.table is None:
        offset = _shared_zero(weight) if weight.minimum is None else 0
        return _Levels(offset or 0, None)
    if weight.bits > 4:
        return f"its {len(weight.table)} levels fit no table of 16 bytes"
    for unit in (1.0, 0.5, 0.25):
        whole = weight.table / unit
        if np.array_equal(whole, np.round(whole)) and np.abs(whole).max() <= _TABLE_STEPS:
            return _table(whole, unit, exact=True)
    unit = float(np.abs(weight.table).max()) / _TABLE_STEPS
    return _table(np.round(weight.table / unit), unit, exact=False)


def _table(levels: npt.NDArray[np.floating], unit: float, *, exact: bool) -> _Levels:
    offset = max(0, -int(levels.min()))
    return _Levels(offset, (levels + offset).astype(np.uint8), unit, exact)
