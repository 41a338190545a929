"""``inspect_model`` on small graphs with what is easily overlooked: ties, subgraphs, embeddings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.errors import ModelError
from qcompiler.inspect.inspection import Inspection
from qcompiler.inspect.model import inspect_model
from qcompiler.models.catalog import DIGITS

TIED = """
<ir_version: 10, opset_import: ["" : 21]>
tied (int64[batch, 4] tokens) => (float[batch, 4, 64] logits)
{
    hidden = Gather (table, tokens)
    soft = Softmax (hidden)
    turned = Transpose <perm = [1, 0]> (table)
    logits = MatMul (soft, turned)
}
"""

BRANCH = """
<ir_version: 10, opset_import: ["" : 21]>
branch (bool wanted, float[2, 8] x) => (float[2, 8] y)
{
    y = If (wanted) <
        then_branch = yes () => (float[2, 8] a) { a = MatMul (x, w) },
        else_branch = no () => (float[2, 8] b) { b = Identity (x) }
    >
}
"""


def inspected(text: str, constants: dict[str, tuple[int, ...]], folder: Path) -> Inspection:
    """Inspect a model in ONNX text whose free values are random float constants of these shapes."""
    random = np.random.default_rng(0)
    made = ""
    for name, shape in constants.items():
        numbers = ", ".join(f"{number:.3f}" for number in random.normal(size=shape).ravel())
        made += f"<float[{', '.join(map(str, shape))}] {name} = {{{numbers}}}>"
    head, body = text.split("\n{", 1)
    model = ir.from_onnx_text(f"{head}\n{made}\n{{{body}")
    ir.save(model, folder / "model.onnx")
    return inspect_model(folder / "model.onnx", OrtCpu())


def test_an_embedding_that_is_tied_counts_once(tmp_path: Path) -> None:
    found = inspected(TIED, {"table": (64, 16)}, tmp_path)
    assert found.parameters == 64 * 16
    assert found.weight_bytes == 64 * 16 * 4
    assert [item.op_type for item in found.weights] == ["Gather", "MatMul"]
    assert list(found.tied) == ["table"]
    assert any("100 % of the bytes" in line for line in found.findings)
    assert any("shared by" in line for line in found.findings)


def test_an_operator_without_integer_form_has_its_reason(tmp_path: Path) -> None:
    found = inspected(TIED, {"table": (64, 16)}, tmp_path)
    assert found.unsupported["Softmax"]
    assert "MatMul" not in found.unsupported


def test_a_weight_in_a_subgraph_is_seen_but_not_for_static(tmp_path: Path) -> None:
    found = inspected(BRANCH, {"w": (8, 8)}, tmp_path)
    (weight,) = found.weights
    assert weight.in_subgraph
    assert weight.dynamic
    assert not weight.static
    outlook = {item.name: item for item in found.outlook}
    assert outlook["int8_static"].can == {}
    assert "subgraph" in next(iter(outlook["int8_static"].cannot))
    assert outlook["int8_dynamic"].can == {"MatMul": 1}
    assert any("subgraphs" in line for line in found.findings)


def test_operators_are_those_of_the_file() -> None:
    found = inspect_model(DIGITS.onnx, OrtCpu())
    assert found.operators["BatchNormalization"] == 5  # preparing the model folds them
    assert found.size_bytes == DIGITS.onnx.stat().st_size
    assert [(item.name, item.dtype, item.shape) for item in found.inputs] == [
        ("image", "float", "[batch, 1, 8, 8]")
    ]


def test_shares_of_the_outlook_are_shares() -> None:
    for item in inspect_model(DIGITS.onnx, OrtCpu()).outlook:
        assert 0 <= item.bytes_share <= 1
        assert item.note


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a protobuf")
    with pytest.raises(ModelError):
        inspect_model(tmp_path / "text.onnx", OrtCpu())
