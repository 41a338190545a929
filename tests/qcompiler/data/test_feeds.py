"""What a model must be fed."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.data import (
    input_specs,
)
from tests.qcompiler.data.specs import X


def test_initializers_among_the_inputs_are_not_fed() -> None:
    text = (
        '<ir_version: 3, opset_import: ["":7]> g (float[N,3] x, float[3] w) => (float[N,3] y)'
        "<float[3] w = {1,2,3}> { y = Add(x, w) }"
    )
    assert input_specs(ir.from_onnx_text(text)) == X


def test_ids_choose_among_the_rows_of_the_smallest_table() -> None:
    text = (
        '<ir_version: 8, opset_import: ["":17]> g (int64[N] ids, int64[N] free) => (float[N,2] y)'
        "<float[3,2] w = {1,2,3,4,5,6}, float[2,2] v = {1,2,3,4}, float[2,3] sideways = {1,2,3,4,5,6}>"
        "{ a = Gather (w, ids) b = Gather (v, ids) c = Gather <axis = 1> (sideways, free) y = Add (a, b) }"
    )
    assert [spec.ids for spec in input_specs(ir.from_onnx_text(text))] == [2, None]
