"""What stands out in a result: a large float weight, seven bits, operators that integers make slower."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.pipeline.base import NodeDecision, PassReport
from qcompiler.report.commands import Command, Step
from qcompiler.report.facts import Hint
from qcompiler.report.remarks import remarks_for

TEXT = """
<ir_version: 10, opset_import: ["" : 21]>
model (int64[N] ids) => (float[N, 8] y)
{
    rows = Gather (table, ids)
    scores = MatMul (rows, weight)
    y = Softmax (scores)
}
"""
STATIC = Command(
    ("m.onnx", "--calib", "d.npz"), (Step("int8_static", ("embeddings=false", "calibrator=mse")),)
)
INT4 = Command(("m.onnx", "--passes", "int3"), (Step("int3"),))
QUANTIZED = NodeDecision("/scores", "MatMul", "quantized", "")


def model(rows: int) -> ir.Model:
    """A table of ``rows`` by 4 float numbers beside a weight of 32 codes."""
    tensors = [
        ir.tensor(np.ones((rows, 4), np.float32), name="table"),
        ir.tensor(np.ones((4, 8), np.int8), name="weight"),
    ]
    made = ir.from_onnx_text(TEXT, initializers=tensors)
    for node in made.graph:
        node.name = f"/{node.outputs[0].name}"
    return made


def remarks(
    *decisions: NodeDecision, rows: int = 100, isa: Isa = Isa.VNNI, name: str = "int8_static"
) -> list[str]:
    report = PassReport(name, (QUANTIZED, *decisions))
    return [line(item) for item in remarks_for(model(rows), OrtCpu(isa=isa), (report,), STATIC)]


def line(item: Hint) -> str:
    return f"{item.text}: {item.command}" if item.command else item.text


def test_a_large_embedding_in_float_is_told_with_its_share_and_the_option() -> None:
    found = remarks()
    # 1600 of 1632 bytes
    assert found[0].startswith("the embedding 'table' is 98 % of the bytes and stays float")
    assert "leave out int8_static:embeddings=false" in found[0]
    assert found[0].endswith("qcompile m.onnx --calib d.npz --passes int8_static:calibrator=mse")


def test_a_small_one_and_one_that_the_user_excluded_are_not() -> None:
    assert not [text for text in remarks(rows=0) if "embedding" in text]
    excluded = NodeDecision("/rows", "Gather", "skipped", "excluded by the user")
    assert not [text for text in remarks(excluded) if "embedding" in text]


def test_the_reason_of_a_pass_is_given() -> None:
    report = PassReport(
        "int4", (QUANTIZED, NodeDecision("/rows", "Gather", "skipped", "its weight is 16 bits"))
    )
    (found,) = remarks_for(model(100), OrtCpu(isa=Isa.VNNI), (report,), INT4)
    assert found.text.endswith("stays float: its weight is 16 bits")
    assert not found.command


@pytest.mark.parametrize("detail", ["", "no codebook kernel: int8 or int4 behind it serves it"])
def test_a_pass_that_serves_it_is_a_command(detail: str) -> None:
    left = [NodeDecision("/rows", "Gather", "skipped", detail)] if detail else []
    report = PassReport("aqlm", (QUANTIZED, *left))
    (found,) = remarks_for(model(100), OrtCpu(isa=Isa.VNNI), (report,), INT4)
    assert found.command == "qcompile m.onnx --passes int3,int4"
    (found,) = remarks_for(model(100), OrtCpu(isa=Isa.VNNI), (report,), INT4, {})
    assert not found.command


def test_a_constant_that_is_no_weight_is_told_without_a_remedy() -> None:
    made = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 21]>
        m (int64[2] ends) => (float[n] y) { zero = Constant <value: tensor = int64[1] {0}> ()
        y = Slice (mask, zero, ends) }""",
        initializers=[ir.tensor(np.ones(100, np.float32), name="mask")],
    )
    (found,) = remarks_for(made, OrtCpu(isa=Isa.VNNI), (PassReport("int4", (QUANTIZED,)),), INT4)
    assert found == Hint(
        "the constant 'mask' of Slice is 100 % of the bytes and stays float: it is no weight"
    )


def test_seven_bits_are_told_where_the_machine_has_no_vnni() -> None:
    assert any("have 7 bits: without VNNI" in text for text in remarks(isa=Isa.AVX2))
    assert not any("7 bits" in text for text in remarks(isa=Isa.VNNI))
    assert not any("7 bits" in text for text in remarks(isa=Isa.AVX2, name="int4"))


def test_softmax_is_told_with_what_was_measured() -> None:
    assert "left in float: 1 Softmax (0.24 of float's speed in integers)" in remarks()
    assert not any("Softmax" in text for text in remarks(name="int8_dynamic"))


def test_nothing_is_said_where_nothing_was_quantized() -> None:
    assert remarks_for(model(100), OrtCpu(isa=Isa.AVX2), (PassReport("int8_static", ()),), STATIC) == ()


def test_a_convolution_that_int8_dynamic_leaves_gets_fixed_ranges() -> None:
    made = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 21]>
        m (float[1, 4, 4, 4] x) => (float[1, 4, 2, 2] y) { y = Conv (x, kernel) }""",
        initializers=[ir.tensor(np.ones((4, 4, 3, 3), np.float32), name="kernel")],
    )
    made.graph[0].name = "/conv"
    left = NodeDecision("/conv", "Conv", "skipped", "ConvInteger is slower than float")
    dynamic = Command(("m.onnx", "--passes", "int8_dynamic"), (Step("int8_dynamic"),))
    (found,) = remarks_for(
        made, OrtCpu(isa=Isa.VNNI), (PassReport("int8_dynamic", (QUANTIZED, left)),), dynamic
    )
    assert "ConvInteger is slower" in found.text
    assert found.command == "qcompile m.onnx --passes int8_static --calib random"
