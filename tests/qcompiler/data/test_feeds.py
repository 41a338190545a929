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
