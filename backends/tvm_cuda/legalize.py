"""Lowering the dialect to nodes that are one definition each; everything else stays standard.

Weights keep their codes: 2, 4 and 8 bits side by side in words, unpacked where they are multiplied; activations stay
in float beside them.  Products of codes are sums of four int8 products at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from qcompiler.backends.base import LegalizeReport, Lowering
from qcompiler.backends.onnxruntime.constant_value import constant_value
from qcompiler.backends.onnxruntime.fusions import fuse_all
from qcompiler.backends.onnxruntime.low_bit_product import LowBitProduct, low_bit_product
from qcompiler.backends.onnxruntime.low_bit_weight import LowBitWeight, makes_low_bit_weight, read_low_bit
from qcompiler.backends.tvm.expand import expand_constants
from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.backends.tvm.private import behind, constants, replace
from qcompiler.backends.tvm_cuda.definitions import WORD_BITS
from qcompiler.backends.tvm_cuda.lower_float import lower_float
from qcompiler.backends.tvm_cuda.lower_int8 import lower_int8
from qcompiler.graph.weighted import array_of, is_constant
from qcompiler.prepare.clean import remove_unused

Array = npt.NDArray[np.generic]


def legalize(model: ir.Model) -> LegalizeReport:
    """Rewrite ``model`` in place."""
    fusions = dict(fuse_all(model))
    stored = _Stored({})
    lowered = [*_gathers(model, stored), *_products(model, stored), *lower_int8(model)]
    model.graph.opset_imports.setdefault(DOMAIN, 1)
    remove_unused(model)
    InlinePass()(model)
    remove_unused(model)
    expanded = expand_constants(model)
    lower_float(model)
    remove_unused(model)
    known = {item.node for item in lowered}
    reason = "no kernel: its weight is expanded when the model is compiled"
    lowered += [Lowering(name, "", reason) for name in dict.fromkeys(expanded) if name not in known]
    return LegalizeReport(tuple(lowered), fusions)


@dataclass
class _Stored:
    """Weights in words: the constants, what describes them, and bits a weight; by the node that made them."""

    found: dict[tuple[ir.Node, int], tuple[list[ir.Value], dict[str, int | str], float]]

    def store(
        self, maker: ir.Node, axis: int, weight: LowBitWeight
    ) -> tuple[list[ir.Value], dict[str, int | str], float]:
        if (maker, axis) not in self.found:
            self.found[maker, axis] = _store(maker, weight)
        return self.found[maker, axis]


def _products(model: ir.Model, stored: _Stored) -> list[Lowering]:
    imports = dict(model.graph.opset_imports)
    found = [item for item in map(low_bit_product, list(model.graph)) if item is not None]
    return [_product(item, imports, stored) for item in found]


def _product(product: LowBitProduct, imports: dict[str, int], stored: _Stored) -> Lowering:
    name = str(product.node.name)
    weight = product.reason or read_low_bit(product.maker, product.k_axis, imports)
    if isinstance(weight, str):
        return Lowering(name, "", weight)
    values, attributes, bits = stored.store(product.maker, product.k_axis, weight)
    inputs = [product.activation, *values]
    if product.bias is not None:
        bias = array_of(product.bias).astype(np.float32).reshape(-1)
        inputs += constants(product.node.outputs[0], name, [("bias", bias)])
    attributes = attributes | {"bias": int(product.bias is not None)}
    made = replace(product.node, product.last, "CudaLowBit", inputs, attributes)
    if product.addend is not None:
        behind(made, "Add", product.addend, "addend")
    return Lowering(name, "CudaLowBit", f"{bits:.2f} bits a weight")


def _gathers(model: ir.Model, stored: _Stored) -> list[Lowering]:
    imports = dict(model.graph.opset_imports)
    done = []
    for node in [node for node in model.graph if node.op_type == "Gather" and not node.domain]:
        axis, table, indices = node.attributes.get("axis"), node.inputs[0], node.inputs[1]
        maker = table.producer() if table is not None else None
        if maker is None or indices is None or (axis is not None and axis.as_int() != 0):
            continue
        weight = (
            read_low_bit(maker, 1, imports) if makes_low_bit_weight(maker) else _int8_table(maker, imports)
        )
        if isinstance(weight, str):
            continue
        values, attributes, _ = stored.store(maker, 1, weight)
        replace(node, node, "CudaRows", [indices, *values], dict(attributes))
        done.append(Lowering(str(node.name), "CudaRows"))
    return done


def _int8_table(maker: ir.Node, imports: dict[str, int]) -> LowBitWeight | str:
    """A table of int8 with one scale, or one for each row."""
    codes = maker.inputs[0] if maker.op_type == "DequantizeLinear" and not maker.domain else None
    if codes is None or not is_constant(codes) or codes.dtype != ir.DataType.INT8:
        return "no quantized table"
    rest = [None if item is None else constant_value(item, imports) for item in maker.inputs[1:]]
    array, axis = array_of(codes), maker.attributes.get("axis")
    if array.ndim != 2 or any(item is None for item in rest) or (len(rest) > 1 and np.any(rest[1])):
        return "no symmetric table"
    scale = np.asarray(rest[0], np.float32)
    if scale.size > 1 and (axis is None or axis.as_int() % 2 != 0):
        return "its scales are not one a row"
    rows = np.broadcast_to(scale.reshape(-1, 1), (len(array), 1)).copy()
    return LowBitWeight((array.view(np.uint8) ^ np.uint8(128)).astype(np.uint8), 8, rows, array.shape[1])


def _store(maker: ir.Node, weight: LowBitWeight) -> tuple[list[ir.Value], dict[str, int | str], float]:
    group = weight.group if weight.scale.shape[1] > 1 else weight.rows
    arrays: list[tuple[str, Array]] = [
        ("words", words_of(weight.codes, weight.bits)),
        ("scale", weight.scale.astype(np.float32)),
    ]
    minimum, offset = weight.minimum, 0 if weight.minimum is not None else weight.middle
    if minimum is None and weight.table is None and weight.zero_point is not None:
        minimum, offset = weight.scale * weight.zero_point.astype(np.float32), 0
    if minimum is not None:
        arrays.append(("minimum", np.asarray(minimum, np.float32)))
    if weight.table is not None:
        arrays.append(("levels", weight.table.astype(np.float32)))
    attributes: dict[str, int | str] = {
        "channels": weight.outputs,
        "depth": weight.rows,
        "bits": weight.bits,
        "group": group,
        "offset": offset,
        "table": 0 if weight.table is None else len(weight.table),
        "minimum": int(minimum is not None),
    }
    values = constants(maker.outputs[0], str(maker.outputs[0].name), arrays)
    bits = 8 * sum(array.nbytes for _, array in arrays) / max(weight.codes.size, 1)
    return values, attributes, bits


def words_of(codes: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.uint32]:
    """``[N, K]`` codes as ``[N, ceil(K bits / 32)]`` words, the first code in the lowest bits."""
    per = WORD_BITS // bits
    padded = np.zeros((codes.shape[0], -(-codes.shape[1] // per) * per), np.uint32)
    padded[:, : codes.shape[1]] = codes
    words: npt.NDArray[np.uint32] = np.bitwise_or.reduce(
        padded.reshape(codes.shape[0], -1, per) << (np.arange(per, dtype=np.uint32) * bits), axis=2
    )
    return words
