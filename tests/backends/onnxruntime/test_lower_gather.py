"""Gathering codes and expanding them gives bit for bit the rows of the expanded table."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompiler.backends.onnxruntime.lower_gather import lower_embedding
from qcompiler.graph.qdq import add_initializer, dequantized_weight

V, D = 11, 6


def _model(axis: int | None, gather_axis: int = 0) -> ir.Model:
    rng = np.random.default_rng(5)
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["": 21]> g (int64[2,3] ids) => (float y) '
        f"{{ y = Gather <axis = {gather_axis}> (ids, ids) }}"
    )
    gather = model.graph[0]
    gather.name = "rows"
    table = add_initializer(model.graph, "table", np.zeros((V, D), np.float32))
    codes = rng.integers(-127, 128, (V, D)).astype(np.int8)
    shape = () if axis is None else (V, D)[axis : axis + 1]
    scale = np.asarray(rng.uniform(0.001, 0.01, shape), np.float32)
    gather.replace_input_with(0, dequantized_weight(table, codes, scale, axis))
    model.graph.outputs[0].shape = None
    return model


def _run(model: ir.Model) -> np.ndarray:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    return np.asarray(session.run(["y"], {"ids": np.array([[0, 10, 3], [3, 5, 1]])})[0])


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_gives_the_same_rows(axis: int | None) -> None:
    model = _model(axis)
    expected = _run(model)
    assert lower_embedding(model) == ["rows"]
    assert "DequantizeLinear" not in [node.op_type for node in model.graph]
    np.testing.assert_array_equal(_run(model), expected)
    assert lower_embedding(model) == []


def test_refuses_a_gather_of_columns() -> None:
    assert lower_embedding(_model(0, gather_axis=1)) == []
