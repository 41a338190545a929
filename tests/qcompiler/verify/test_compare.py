"""Any two models on the same data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.data.feeds import Feed
from qcompiler.errors import CalibrationError, InputError
from qcompiler.verify.compare import compare_models
from qcompiler.verify.metrics import EXACT_DB

from .conftest import from_text

BRANCHES = """
<ir_version: 10, opset_import: ["" : 21]>
net (float[N] x, bool c) => (float[N] y)
{
    doubled = Add (x, x)
    chosen = If (c) <
        then_branch = yes () => (float[N] a) { a = Mul (doubled, w) },
        else_branch = no () => (float[N] b) { b = Identity (doubled) }
    >
    y = Neg (chosen)
}
"""


def chain(weight: float, name: str = "inner", output: str = "y") -> ir.Model:
    text = f"""
    <ir_version: 10, opset_import: ["" : 21]>
    net (float[N, M] x) => (float[N, M] {output}) {{ {name} = Mul (x, w)  {output} = Tanh ({name}) }}
    """
    return from_text(text, w=np.array(weight, np.float32))


def batches() -> list[Feed]:
    random = np.random.default_rng(0)
    return [{"x": random.normal(size=shape).astype(np.float32)} for shape in ((2, 3), (1, 7), (0, 3))]


def test_a_model_and_itself() -> None:
    found = compare_models(chain(0.5), chain(0.5), batches())
    assert [item.value for item in found.nodes] == ["inner"]
    assert [item.value for item in found.outputs] == ["y"]
    assert {item.sqnr_db for item in (*found.nodes, *found.outputs)} == {EXACT_DB}
    assert found.samples == 3


def test_figures_and_worst() -> None:
    found = compare_models(chain(0.5), chain(0.55), batches())
    (worst,) = found.worst(1)
    assert (worst.value, worst.node, worst.op_type) == ("inner", "/inner", "Mul")
    assert worst.sqnr_db == pytest.approx(20.0, abs=1e-4)  # a tenth of the signal; float32 of 0.05/0.5
    assert worst.cosine == pytest.approx(1.0)


def test_files_and_a_one_shot_iterator(tmp_path: Path) -> None:
    first, second = tmp_path / "a.onnx", tmp_path / "b.onnx"
    ir.save(chain(0.5), first)
    ir.save(chain(0.55), second)
    found = compare_models(first, second, iter(batches()), group_bytes=1)
    assert found.worst(1)[0].value == "inner"
    assert found.samples == 3


def test_models_are_not_changed() -> None:
    a, b = chain(0.5), chain(0.55)
    before = [ir.to_proto(model).SerializeToString() for model in (a, b)]
    compare_models(a, b, batches())
    assert [ir.to_proto(model).SerializeToString() for model in (a, b)] == before


def test_nothing_shared_inside_is_said() -> None:
    found = compare_models(chain(0.5), chain(0.5, name="other"), batches())
    assert found.nodes == ()
    assert found.outputs[0].sqnr_db == EXACT_DB
    assert "no value of the same name" in found.unobserved[0].reason


def test_different_outputs_are_named() -> None:
    with pytest.raises(InputError, match="outputs 'y', the second 'z'"):
        compare_models(chain(0.5), chain(0.5, output="z"), batches())


def test_same_name_of_another_shape_is_said() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    net (float[N, M] x) => (float[N, M] y) {
        inner = Unsqueeze (x, axis)
        back = Squeeze (inner, axis)
        y = Tanh (back)
    }
    """
    found = compare_models(chain(1.0), from_text(text, axis=np.array([0])), batches())
    assert found.nodes == ()
    assert (found.unobserved[0].value, found.unobserved[0].reason) == (
        "inner",
        "its shape is another in each model",
    )


def test_subgraphs_run() -> None:
    feeds: list[Feed] = [
        {"x": np.arange(3, dtype=np.float32), "c": np.array(choice)} for choice in (True, False)
    ]
    model = from_text(BRANCHES, w=np.full(1, 2, np.float32))
    found = compare_models(model, from_text(BRANCHES, w=np.full(1, 3, np.float32)), feeds)
    assert [item.value for item in found.nodes] == ["doubled", "chosen"]
    assert [item.sqnr_db == EXACT_DB for item in found.nodes] == [True, False]


def test_nan_in_one_model_is_flagged() -> None:
    found = compare_models(chain(1.0), chain(np.nan), batches()[:1])
    assert found.nodes[0].not_finite == 6
    assert "NaN or infinity in one model only, 6 elements" in str(found.nodes[0])


def test_data_that_does_not_fit() -> None:
    with pytest.raises(CalibrationError, match="needs \\['x'\\]"):
        compare_models(chain(1.0), chain(1.0), [{"z": np.zeros((1, 1), np.float32)}])
    with pytest.raises(CalibrationError, match="does not run on feed 0"):
        compare_models(chain(1.0), chain(1.0), [{"x": np.zeros((1, 1), np.int64)}])
    with pytest.raises(CalibrationError, match="no sample"):
        compare_models(chain(1.0), chain(1.0), [])
