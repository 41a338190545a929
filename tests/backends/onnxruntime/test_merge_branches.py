"""Products of one input share an If, and at prefill the rounding of that input; results stay as they were."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.base import NodeKey
from qcompiler.backends.onnxruntime.kernels import OptimizedGraph, read_kernels
from qcompiler.backends.onnxruntime.legalize import legalize
from qcompiler.backends.onnxruntime.session import open_model, session_options
from tests.backends.onnxruntime.low_bit_graphs import Case, build, feed, options

CASE = Case(k=512, n=128)


def _pair(case: Case) -> ir.Model:
    """``y`` and ``z``, two products of ``x`` by one weight; only ``y`` has a bias."""
    model = build(case)
    node = next(node for node in model.graph if node.name == "product")
    second = ir.node(case.op, node.inputs[:2], name="second")
    made, output = second.outputs[0], model.graph.outputs[0]
    made.name, made.type, made.shape = "z", output.type, output.shape
    model.graph.append(second)
    model.graph.outputs.append(made)
    return model


def _ops(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.all_nodes())


def _run(model: ir.Model, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return open_model(model, session_options(threads=1)).run(feeds)


@pytest.mark.parametrize("per_token", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 20])
def test_each_product_gives_what_it_gives_alone(rows: int, bias: bool, per_token: bool) -> None:
    case = replace(CASE, bias=bias)
    pair, alone = _pair(case), build(case)
    for model in (pair, alone):
        legalize(model, fuse=True, low_bit=options(per_token=per_token))
    found, expected = _run(pair, feed(case, rows)), _run(alone, feed(case, rows))
    np.testing.assert_array_equal(found["y"], expected["y"])  # the same kernels on the same codes
    if not bias:
        np.testing.assert_array_equal(found["z"], expected["y"])


def test_the_input_is_scaled_and_quantized_once() -> None:
    model = _pair(CASE)
    legalize(model, fuse=True, low_bit=options())
    ops = _ops(model)
    assert ops["If"] == ops["Abs"] == ops["ReduceMax"] == ops["Div"] == ops["DynamicQuantizeLinear"] == 1
    assert ops["MatMulNBits"] == ops["MatMulIntegerToFloat"] == 2
    assert ops["DynamicQuantizeMatMul"] == 0


def test_products_of_different_inputs_keep_their_ifs() -> None:
    model = _pair(CASE)
    second = model.graph[-1]
    negated = ir.node("Neg", [model.graph.inputs[0]], name="negated")
    negated.outputs[0].name = "negated"
    negated.outputs[0].type, negated.outputs[0].shape = (
        model.graph.inputs[0].type,
        model.graph.inputs[0].shape,
    )
    model.graph.insert_before(second, negated)
    second.replace_input_with(0, negated.outputs[0])
    legalize(model, fuse=True, low_bit=options())
    assert _ops(model)["If"] == 2


def test_the_kernels_of_each_product_are_found(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = _pair(CASE)
    legalize(model, fuse=True, low_bit=options())
    ir.save(model, path)
    keys = [NodeKey("product", "MatMul", ("y",)), NodeKey("second", "MatMul", ("z",))]
    assert [item.kernel for item in read_kernels(path, keys)] == ["If(MatMulNBits, MatMulIntegerToFloat)"] * 2
    assert OptimizedGraph(model).find("second", ()) is not None
