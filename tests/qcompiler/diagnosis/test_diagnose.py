"""The whole of ``diagnose``: what it refuses, what it says of sound models, and that its commands can be pasted."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.cli.app import app
from qcompiler.data.feeds import Feed
from qcompiler.diagnosis.facts import Diagnosis
from qcompiler.errors import CalibrationError, InputError, UnsupportedError
from qcompiler.pipeline.parse import parse_passes
from tests.qcompiler.diagnosis.conftest import DIGITS, DIGITS_TEST, PYDOC, PYDOC_TEST, Quantized, diagnosed


def test_models_with_other_inputs_do_not_belong_together(quantized: Quantized) -> None:
    with pytest.raises(InputError, match="input_ids"):
        diagnosed(PYDOC, quantized("digits_qdq"), PYDOC_TEST)


def test_a_model_of_another_training_is_refused(
    mlp: Path, mlp_feeds: list[Feed], quantized: Quantized
) -> None:
    other = ir.load(mlp)
    random = np.random.default_rng(5)
    for value in other.graph.initializers.values():
        assert value.const_value is not None
        shape = value.const_value.shape.numpy()
        value.const_value = ir.tensor(random.normal(size=shape).astype(np.float32), name=value.name)
    with pytest.raises(InputError, match=r"weights of .* are not those of"):
        qcompiler.diagnose(other, quantized("mlp_qdq"), mlp_feeds)


def test_a_model_without_quantized_nodes_is_refused() -> None:
    with pytest.raises(InputError, match="holds no quantized node"):
        diagnosed(DIGITS, onnx.load(DIGITS), DIGITS_TEST)


def test_swapped_models_are_told(quantized: Quantized) -> None:
    with pytest.raises(InputError, match="give the float model first"):
        qcompiler.diagnose(quantized("digits_qdq"), DIGITS, DIGITS_TEST)


def test_two_quantized_models_are_refused(quantized: Quantized) -> None:
    with pytest.raises(InputError, match="is quantized itself"):
        qcompiler.diagnose(quantized("digits_qdq"), quantized("digits_qop"), DIGITS_TEST)


def test_data_is_needed(quantized: Quantized) -> None:
    with pytest.raises(CalibrationError, match="there is no data"):
        diagnosed(DIGITS, quantized("digits_qdq"), None)


def test_models_that_do_not_fit_into_memory_are_refused(
    quantized: Quantized, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcompiler.diagnosis.pairing.memory_bytes", lambda: 100_000)
    with pytest.raises(UnsupportedError, match=r"3 times in memory, 0.0 GB, and this machine has"):
        diagnosed(DIGITS, quantized("digits_qdq"), DIGITS_TEST)


def test_models_are_left_as_they_were(mlp: Path, mlp_feeds: list[Feed], quantized: Quantized) -> None:
    reference, other = ir.load(mlp), ir.from_proto(quantized("mlp_qdq"))
    before = [ir.to_proto(model).SerializeToString(deterministic=True) for model in (reference, other)]
    qcompiler.diagnose(reference, other, mlp_feeds)
    after = [ir.to_proto(model).SerializeToString(deterministic=True) for model in (reference, other)]
    assert before == after


def test_nodes_without_names_are_diagnosed(quantized: Quantized) -> None:
    model = quantized("digits_qop")
    for node in model.graph.node:
        node.name = ""
    assert len(diagnosed(DIGITS, model, DIGITS_TEST, samples=1, suspects=0).nodes) == 6


def test_a_model_in_half_precision_is_diagnosed_against_the_float_one(quantized: Quantized) -> None:
    """Arrays go from one model into the other, whatever floats each computes in."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(quantized("pydoc_nbits"), keep_io_types=True, disable_shape_infer=True)
    found = diagnosed(PYDOC, half, PYDOC_TEST, samples=1, suspects=1)
    assert len(found.nodes) == 22
    assert all(20.0 < item.weights_db < 40.0 for item in found.nodes)  # 4 bits give 24 to 33 dB


def test_labels_are_judged_by_what_they_are_made_of(mlp: Path, mlp_feeds: list[Feed]) -> None:
    reference, other = onnx.load(mlp), onnx.load(mlp)
    for model in (reference, other):
        info = onnx.helper.make_tensor_value_info("label", onnx.TensorProto.INT64, ["N"])
        model.graph.node.append(onnx.helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0))
        del model.graph.output[:]
        model.graph.output.append(info)
    options = qcompiler.CompileOptions(verify="none")
    compiled = qcompiler.compile(other, "int8_static", calibration=mlp_feeds, options=options)
    found = qcompiler.diagnose(reference, compiled.path, mlp_feeds)
    (label,) = [item for item in found.outputs if item.value == "label"]
    assert not label.is_float
    (scores,) = [item for item in found.outputs if item.value == "y"]
    assert 25.0 < scores.sqnr_db < 60.0  # 8 bits
    assert any(item.effect is not None and item.effect.only < 100.0 for item in found.nodes)


def test_smoothed_weights_are_not_blamed(quantized: Quantized) -> None:
    """smoothquant scales norms and weights: compared as they are, they look 10 to 40 dB worse than they are."""
    found = diagnosed(PYDOC, quantized("pydoc_ours"), PYDOC_TEST, samples=2, suspects=2)
    assert not [item for item in found.culprits if item.kind == "weight"]
    assert len(found.nodes) >= 20
    # 8 bits per channel reach 45 dB; up and down projections, which are seen together, lose the most
    assert all(item.weights_db > 30.0 for item in found.nodes)


def test_errors_alone_are_what_the_gathered_error_starts_with(quantized: Quantized) -> None:
    """The first convolution has nothing wrong before it: alone and in company it computes the same."""
    found = diagnosed(DIGITS, quantized("digits_ours"), DIGITS_TEST, suspects=0)
    first = found.nodes[0]
    assert first.name == "/stem.0/Conv"
    assert first.alone_db == pytest.approx(first.gathered_db, abs=1e-6)  # the same numbers
    assert first.weights_db > first.alone_db


def test_nodes_without_quantized_members_are_not_listed(quantized: Quantized) -> None:
    found = diagnosed(DIGITS, quantized("digits_ours"), DIGITS_TEST, suspects=0)
    assert {item.op_type for item in found.nodes} == {"Conv", "Gemm"}
    assert all(item.effect is None for item in found.nodes)


def test_commands_can_be_pasted(mlp: Path, mlp_feeds: list[Feed], quantized: Quantized) -> None:
    """Each names the float model, passes that exist with options that they have, and nodes of the float model."""
    for found in (
        diagnosed(mlp, quantized("mlp_qdq"), mlp_feeds),
        diagnosed(DIGITS, quantized("digits_qop"), DIGITS_TEST),
        diagnosed(PYDOC, quantized("pydoc_nbits"), PYDOC_TEST, samples=1, suspects=2),
    ):
        names = {node.name for node in onnx.load(found.reference).graph.node}
        for remedy in found.remedies:
            words = shlex.split(remedy.command)
            assert words[:2] == ["qcompile", found.reference]
            assert parse_passes(words[words.index("--passes") + 1])
            assert {words[at + 1] for at, word in enumerate(words) if word == "--exclude"} <= names


def test_a_spread_error_of_few_bits_asks_for_a_better_solver(quantized: Quantized) -> None:
    found = diagnosed(PYDOC, quantized("pydoc_nbits"), PYDOC_TEST, samples=1, suspects=2)
    assert "the error is spread over 22 nodes" in found.verdict[0]
    assert any("solver=gptq" in remedy.command for remedy in found.remedies)


def test_every_figure_is_plain_json(mlp: Path, mlp_feeds: list[Feed], quantized: Quantized) -> None:
    import json

    from qcompiler.report.json import to_json

    document = json.loads(to_json(diagnosed(mlp, quantized("mlp_qdq"), mlp_feeds)))
    assert set(document) == set(Diagnosis.__dataclass_fields__)
    assert document["nodes"][0]["weights"][0]["kind"] == "int8 per channel"


def test_the_command_is_listed() -> None:
    assert "diagnose" in [command.name for command in app.registered_commands]
