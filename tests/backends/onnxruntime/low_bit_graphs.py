"""Small graphs with weights of few bits, in the dialect, written by hand."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.lower_low_bit import LowBitOptions
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.graph.qdq import add_initializer

_TYPES = {
    (2, True): (ir.DataType.INT4, ml_dtypes.int4),
    (2, False): (ir.DataType.UINT4, ml_dtypes.uint4),
    (4, True): (ir.DataType.INT4, ml_dtypes.int4),
    (4, False): (ir.DataType.UINT4, ml_dtypes.uint4),
    (8, True): (ir.DataType.INT8, np.int8),
    (8, False): (ir.DataType.UINT8, np.uint8),
}

FUNCTIONS = """
<domain: "qcompiler", opset_import: ["" : 21]>
DequantizeTable <axis, block_size> (codes, table, scale) => (weights)
{
    index = Cast <to = 6> (codes)
    level = Gather <axis = 0> (table, index)
    shape = Shape (index)
    axis_index = Constant <value_int : int = @axis> ()
    length = Gather (shape, axis_index)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    rows = Range (zero, length, one)
    size = Constant <value_int : int = @block_size> ()
    block = Div (rows, size)
    scale_of_row = Gather <axis : int = @axis> (scale, block)
    weights = Mul (level, scale_of_row)
}
<domain: "qcompiler", opset_import: ["" : 21]>
DequantizeMin <axis, block_size> (codes, scale, min) => (weights)
{
    index = Cast <to = 1> (codes)
    shape = Shape (index)
    axis_index = Constant <value_int : int = @axis> ()
    length = Gather (shape, axis_index)
    zero = Constant <value_int = 0> ()
    one = Constant <value_int = 1> ()
    rows = Range (zero, length, one)
    size = Constant <value_int : int = @block_size> ()
    block = Div (rows, size)
    scale_of_row = Gather <axis : int = @axis> (scale, block)
    scaled = Mul (index, scale_of_row)
    min_of_row = Gather <axis : int = @axis> (min, block)
    weights = Sub (scaled, min_of_row)
}
"""


@dataclass(frozen=True)
class Case:
    """A weight ``[K, N]``, how it is stored, and what reads it."""

    k: int = 64
    n: int = 24
    bits: int = 4
    group: int | None = 32
    symmetric: bool = True
    kind: str = "integers"
    transposed: bool = False
    op: str = "MatMul"
    bias: bool = False
    rows: str = "rows"


def build(case: Case, seed: int = 0) -> ir.Model:
    """``y = x W [+ b]``, or rows of W transposed for a Gather, at opset 21."""
    rng = np.random.default_rng(seed)
    header = '<ir_version: 10, opset_import: ["": 21, "qcompiler": 1]>'
    if case.op == "Gather":
        body = "g (int64[2,3] ids) => (float[2,3,d] y) { y = Gather <axis = 0> (ids, ids) }"
    else:
        sizes = f"{case.rows},{case.k}"
        shape, out = (f"[{sizes}]", f"[{case.rows},{case.n}]")
        if case.op == "MatMul":
            shape, out = f"[1,{sizes}]", f"[1,{case.rows},{case.n}]"
        attributes = "<transB = 1>" if case.op == "Gemm" and case.transposed else ""
        body = f"g (float{shape} x) => (float{out} y) {{ y = {case.op} {attributes} (x, x) }}"
    model = ir.from_onnx_text(header + body + FUNCTIONS)
    node = model.graph[0]
    node.name = "product"
    weight = _weight(model, case, rng)
    if case.op == "MatMul" and case.transposed:
        turn = ir.node("Transpose", [weight], {"perm": [1, 0]}, name="turn")
        turn.outputs[0].name = "turned"
        model.graph.insert_before(node, turn)
        weight = turn.outputs[0]
    node.replace_input_with(0 if case.op == "Gather" else 1, weight)
    if case.bias:
        bias = add_initializer(model.graph, "bias", rng.standard_normal(case.n).astype(np.float32))
        node.resize_inputs(3) if case.op == "Gemm" else None
        if case.op == "Gemm":
            node.replace_input_with(2, bias)
        else:
            _add_behind(model, node, bias)
    return model


def _add_behind(model: ir.Model, node: ir.Node, bias: ir.Value) -> None:
    add = ir.node("Add", [node.outputs[0], bias], name="bias_add")
    output = model.graph.outputs[0]
    add.outputs[0].name, add.outputs[0].shape, add.outputs[0].type = "y", output.shape, output.type
    output.name = "product_output"
    model.graph.insert_after(node, add)
    model.graph.outputs[0] = add.outputs[0]


def _weight(model: ir.Model, case: Case, rng: np.random.Generator) -> ir.Value:
    along_k = case.transposed or case.op == "Gather"
    groups = 1 if case.group is None else -(-case.k // case.group)
    dtype, kind = _TYPES[case.bits, case.symmetric and case.kind == "integers"]
    low = -(1 << (case.bits - 1)) if case.symmetric and case.kind == "integers" else 0
    codes = rng.integers(low, low + (1 << case.bits), (case.k, case.n))
    scale = rng.uniform(0.01, 0.03, (groups, case.n)).astype(np.float16).astype(np.float32)
    if case.symmetric and case.kind == "integers":
        scale *= rng.choice(np.array([-1, 1], np.float32), scale.shape)

    def laid_out(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.T) if along_k else array

    def constant(name: str, array: np.ndarray, of: ir.DataType | None = None) -> ir.Value:
        value = add_initializer(model.graph, name, np.zeros(1, np.uint8))
        value.const_value = ir.tensor(array, dtype=of, name=value.name)
        value.shape, value.type = ir.Shape(array.shape), ir.TensorType(value.const_value.dtype)
        return value

    inputs = [constant("w_quantized", laid_out(codes).astype(kind), dtype)]
    flat = case.group is None and case.kind == "integers"
    axis, block = (1 if along_k else 0), {"block_size": case.group or case.k}
    scales = constant("w_scale", scale.reshape(-1) if flat else laid_out(scale))
    op, domain = "DequantizeLinear", ""
    if case.kind == "table":
        op, domain = "DequantizeTable", "qcompiler"
        levels = np.sort(rng.standard_normal(1 << case.bits)).astype(np.float32)
        inputs += [constant("w_table", levels), scales]
    elif case.kind == "min":
        op, domain = "DequantizeMin", "qcompiler"
        inputs += [
            scales,
            constant("w_min", laid_out(scale * rng.uniform(5, 9, scale.shape).astype(np.float32))),
        ]
    else:
        inputs.append(scales)
        if not case.symmetric:
            zero = rng.integers(0, 1 << case.bits, scale.shape)
            inputs.append(
                constant("w_zero_point", (zero.reshape(-1) if flat else laid_out(zero)).astype(kind), dtype)
            )
        axis, block = (1 - axis, {}) if flat else (axis, block)
    node = ir.node(op, inputs, {"axis": axis, **block}, domain=domain, name="w_dequantize")
    node.metadata_props["qcompiler.format"] = "test"
    node.outputs[0].name, node.outputs[0].type = "w_dequantized", ir.TensorType(ir.DataType.FLOAT)
    node.outputs[0].shape = ir.Shape((case.n, case.k) if along_k else (case.k, case.n))
    model.graph.insert_before(model.graph[0], node)
    return node.outputs[0]


def options(
    *, exact: bool = False, size_first: bool = False, rows: int = 8, per_token: bool = True
) -> LowBitOptions:
    """Options with a fixed threshold."""
    return LowBitOptions(exact, size_first, per_token, 127, lambda: rows)


def run(model: ir.Model, feeds: dict[str, np.ndarray], *, optimize: bool = True) -> np.ndarray:
    """The output ``y``."""
    session = open_model(model, session_options(threads=1, optimize=optimize))
    return np.asarray(session.run(feeds)["y"])


def feed(case: Case, rows: int) -> dict[str, np.ndarray]:
    """Ids, or normal values of ``rows`` rows."""
    rng = np.random.default_rng(1)
    if case.op == "Gather":
        return {"ids": np.array([[0, case.n - 1, 3], [3, 5, 1]])}
    shape = (1, rows, case.k) if case.op == "MatMul" else (rows, case.k)
    return {"x": rng.standard_normal(shape).astype(np.float32)}


def sqnr_db(expected: np.ndarray, found: np.ndarray) -> float:
    """Signal to noise."""
    noise = float(np.square(found.astype(np.float64) - expected).sum())
    return (
        200.0 if noise == 0.0 else 10 * np.log10(float(np.square(expected, dtype=np.float64).sum()) / noise)
    )
