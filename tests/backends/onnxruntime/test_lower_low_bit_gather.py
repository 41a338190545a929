"""Rows of tables of few bits are what the dialect says, and tied tables are stored once."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.legalize import legalize
from tests.backends.onnxruntime.low_bit_graphs import Case, build, feed, options, run, sqnr_db


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("group", [16, 32, None])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("width", [64, 72])
def test_rows_are_exact(bits: int, group: int | None, symmetric: bool, width: int) -> None:
    case = Case(k=width, bits=bits, group=group, symmetric=symmetric, op="Gather")
    model = build(case)
    expected = run(model, feed(case, 1), optimize=False)
    (item,) = legalize(model, fuse=True, low_bit=options()).lowered
    assert item.kernel == "GatherBlockQuantized"
    assert item.rounding_db is None
    # scale * (code - zero) in another order of the same two operations
    np.testing.assert_allclose(run(model, feed(case, 1)), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["table", "min"])
def test_other_formats_go_to_a_grid_of_int8(kind: str) -> None:
    case = Case(k=64, kind=kind, symmetric=False, op="Gather")
    model = build(case)
    expected = run(model, feed(case, 1), optimize=False)
    (item,) = legalize(model, fuse=True, low_bit=options()).lowered
    assert "grid of int8" in item.reason
    # 255 levels a block
    assert sqnr_db(expected, run(model, feed(case, 1))) > 38


@pytest.mark.parametrize(("width", "copies"), [(64, 1), (72, 2)])
def test_a_tied_table_is_stored_once_where_layouts_agree(width: int, copies: int) -> None:
    case = Case(k=width, op="Gather", n=40)
    model = build(case)
    gather = model.graph[-1]
    turn = ir.node("Transpose", [gather.inputs[0]], {"perm": [1, 0]}, name="turn")
    product = ir.node("MatMul", [gather.outputs[0], turn.outputs[0]], name="head")
    logits = product.outputs[0]
    logits.name, logits.type = "logits", ir.TensorType(ir.DataType.FLOAT)
    logits.shape = ir.Shape([2, 3, 40])
    model.graph.extend([turn, product])
    model.graph.outputs.append(logits)
    expected = run(model, feed(case, 1), optimize=False)
    report = legalize(model, fuse=True, low_bit=options())
    assert [item.kernel for item in report.lowered] == ["GatherBlockQuantized", "MatMulNBits"]
    large = [value for value in model.graph.initializers.values() if _size_bytes(value) >= 40 * width // 2]
    assert len(large) == copies
    np.testing.assert_allclose(run(model, feed(case, 1)), expected, rtol=1e-6)


def _size_bytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else value.const_value.nbytes
