"""What came in 16 bits goes back into 16 bits where that is exact."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.graph.names import names_kept
from qcompiler.graph.stored_half import store_in_half
from qcompiler.load import load_model
from qcompiler.prepare import prepare
from tests.qcompiler.graph_cases import Case, random
from tests.qcompiler.half import in_half
from tests.qcompiler.prepare.running import run

TABLE, HEAD = random(64, 32, seed=1), random(32, 64, seed=2)
CASE = Case(
    "h = Gather (table, ids)  n = Mul (h, norm)  y = MatMul (n, head)",
    {"table": TABLE, "head": HEAD, "norm": random(32, seed=3)},
    inputs="int64[N, T] ids",
    outputs="float[N, T, 64] y",
)
FEED = {"ids": np.array([[0, 3, 63]], np.int64)}


def prepared() -> ir.Model:
    model = load_model(ir.to_proto(in_half(ir.from_proto(CASE.model()))))
    prepare(model)
    return model


def test_matrices_go_back_and_nothing_computed_changes() -> None:
    model = prepared()
    before = run(ir.to_proto(model), FEED)
    stored = model.clone()
    with names_kept(stored):
        assert store_in_half(stored) == ()
    types = {name: value.dtype for name, value in stored.graph.initializers.items()}
    assert types == {"table": ir.DataType.FLOAT16, "head": ir.DataType.FLOAT16, "norm": ir.DataType.FLOAT}
    # The lookup reads 16-bit rows: the table is never widened whole.
    assert [
        node.op_type for node in stored.graph if node.inputs[0] is stored.graph.initializers["table"]
    ] == ["Gather"]
    np.testing.assert_array_equal(run(ir.to_proto(stored), FEED)[0], before[0])
    # The model it was cloned from is untouched.
    np.testing.assert_array_equal(run(ir.to_proto(model), FEED)[0], before[0])


def test_a_weight_that_a_transform_changed_stays_in_float32_and_is_named() -> None:
    model = prepared()
    changed = HEAD.astype(np.float16).astype(np.float32) / np.float32(3)
    model.graph.initializers["head"].const_value = ir.tensor(changed, name="head")
    assert store_in_half(model) == ("head",)
    assert model.graph.initializers["head"].dtype == ir.DataType.FLOAT


def test_float32_models_are_left_alone() -> None:
    model = load_model(CASE.model())
    prepare(model)
    assert store_in_half(model) == ()
    assert {value.dtype for value in model.graph.initializers.values()} == {ir.DataType.FLOAT}
