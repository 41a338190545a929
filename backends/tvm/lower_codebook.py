"""Products by weights that are looked up in codebooks become one kernel each, which computes just what the graph says.

LookUpChannels -> MatMul [-> Add(bias)]        CodebookChannels
LookUpVectors -> MatMul [-> Add(bias)]         CodebookVectors
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.backends.onnxruntime.lower_dynamic import bias_add, other_input
from qcompiler.backends.tvm.private import constants, replace
from qcompiler.graph.codebook import CHANNELS, VECTORS
from qcompiler.graph.functions import DOMAIN
from qcompiler.graph.weighted import array_of, is_constant

Array = npt.NDArray[Any]
_Packed = tuple[list[ir.Value], dict[str, int | str], str]


def lower_codebook(model: ir.Model) -> list[Lowering]:
    """Rewrite every such product in place; say which, and why others are left to their reference semantics."""
    packed: dict[ir.Node, _Packed] = {}
    lowered = []
    for node in list(model.graph):
        maker = _maker(node) if node.op_type in ("MatMul", "Gemm") and not node.domain else None
        if maker is not None:
            lowered.append(_lower(node, *maker, packed))
    return lowered


def _maker(node: ir.Node) -> tuple[ir.Node, bool] | None:
    """What looks the weight up, and whether it is turned round when it arrives at the product."""
    value, turned = node.inputs[1], node.op_type == "Gemm" and _number(node, "transB", 0) == 1
    producer = value.producer() if value is not None else None
    while producer is not None and producer.op_type == "Transpose" and producer.inputs[0] is not None:
        producer, turned = producer.inputs[0].producer(), not turned
    known = producer is not None and producer.domain == DOMAIN and producer.op_type in (CHANNELS, VECTORS)
    return (producer, turned) if known and producer is not None else None


def _lower(node: ir.Node, maker: ir.Node, turned: bool, packed: dict[ir.Node, _Packed]) -> Lowering:
    from qcompiler.backends.tvm.kernels.epilogue import pack_channels

    name, activation = str(node.name), node.inputs[0]
    reason = _refusal(node, maker, turned)
    if reason or activation is None:
        return Lowering(name, "", reason)
    if maker not in packed:
        packed[maker] = _pack_channels(maker) if maker.op_type == CHANNELS else _pack_vectors(maker)
    values, attributes, said = packed[maker]
    columns = int(attributes["channels"])
    add = None if node.op_type == "Gemm" else bias_add(node, columns)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    bias = other_input(add, node.outputs[0]) if add is not None else bias
    inputs = [activation, *values]
    if bias is not None:
        content = np.broadcast_to(array_of(bias).reshape(-1), (columns,)).astype(np.float32)
        inputs += constants(node.outputs[0], name, [("bias", pack_channels(content))])
    kernel = "CodebookChannels" if maker.op_type == CHANNELS else "CodebookVectors"
    replace(node, add or node, kernel, inputs, attributes | {"bias": int(bias is not None)})
    return Lowering(name, kernel, said)


def _refusal(node: ir.Node, maker: ir.Node, turned: bool) -> str:
    if turned:
        return "its weight is looked up the other way round"
    if not all(is_constant(value) for value in maker.inputs):
        return "its codes or codebook are not constant"
    if node.op_type != "Gemm":
        return ""
    if any(_number(node, key, 1) != 1 for key in ("alpha", "beta")) or _number(node, "transA", 0):
        return "a Gemm with alpha, beta or transA has no such form"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    fits = bias is None or (is_constant(bias) and array_of(bias).ndim < 2)
    return "" if fits else "a Gemm that adds a matrix has no such form"


def _arrays(maker: ir.Node) -> list[Array]:
    """Codes, a byte each, and what else the function reads."""
    codes, *others = (array_of(value) for value in maker.inputs if value is not None)
    return [codes.astype(np.uint8), *others]


def _pack_channels(maker: ir.Node) -> _Packed:
    from qcompiler.backends.tvm.kernels.codebook_channels import pack

    codes, table = _arrays(maker)
    weight, tables = pack(codes, np.ascontiguousarray(table.T))
    values = constants(maker.inputs[0], str(maker.outputs[0].name), [("packed", weight), ("table", tables)])  # type: ignore[arg-type]
    bits = 8 * (weight.nbytes + tables.nbytes) / codes.size
    attributes: dict[str, int | str] = {"channels": codes.shape[1], "depth": codes.shape[0]}
    return values, attributes, f"{bits:.2f} bits a weight, {len(table)} values a column"


def _pack_vectors(maker: ir.Node) -> _Packed:
    from qcompiler.backends.tvm.cpu_features import Variant
    from qcompiler.backends.tvm.kernels.codebook_vectors import CodebookVectors, pack

    codes, book, scale = _arrays(maker)
    (books, groups, columns), (_, entries, length) = codes.shape, book.shape
    spec = CodebookVectors(columns, groups * length, length, entries, Variant.PLAIN, books)
    arrays = pack(spec, codes, book, scale)
    names = ("packed", "book", "packed_scale", "columns")
    pairs = list(zip(names, arrays, strict=False))  # columns where tables are made of them
    values = constants(maker.inputs[0], str(maker.outputs[0].name), pairs)  # type: ignore[arg-type]
    bits = 8 * sum(array.nbytes for array in arrays) / (groups * length * columns)
    attributes: dict[str, int | str] = {
        "channels": columns, "depth": groups * length, "length": length, "entries": entries, "books": books
    }  # fmt: skip
    return values, attributes, f"{bits:.2f} bits a weight, {books} x {entries} vectors of {length}"


def _number(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.value)
