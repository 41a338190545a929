"""``diagnose`` names the one bad part that was planted, whoever quantized the model, and says what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler.data.feeds import Feed
from qcompiler.diagnosis.facts import Culprit, Diagnosis
from tests.qcompiler.diagnosis.conftest import (
    DIGITS,
    DIGITS_TEST,
    PYDOC,
    PYDOC_TEST,
    Quantized,
    array,
    diagnosed,
    plant,
)


def test_wrong_scale_of_a_weight(mlp: Path, mlp_feeds: list[Feed], quantized: Quantized) -> None:
    model = quantized("mlp_qdq")
    plant(model, "w2_scale", array(model, "w2_scale") * 3)
    worst = only_culprit(diagnosed(mlp, model, mlp_feeds))
    assert (worst.kind, worst.name) == ("weight", "/second")
    assert "its scale is 3 times what the weight needs" in worst.fault


def test_transposed_axis_of_a_square_weight(mlp: Path, mlp_feeds: list[Feed], quantized: Quantized) -> None:
    model = quantized("mlp_qdq")
    node = next(
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and "w2_quantized" in node.input
    )
    axis = next(attribute for attribute in node.attribute if attribute.name == "axis")
    axis.i = 1 - axis.i
    worst = only_culprit(diagnosed(mlp, model, mlp_feeds))
    assert (worst.kind, worst.name) == ("weight", "/second")
    assert "the per-channel axis is transposed" in worst.fault


def test_clipped_range_of_an_activation(mlp: Path, mlp_feeds: list[Feed], quantized: Quantized) -> None:
    model = quantized("mlp_qdq")
    name = (
        "hidden_scale"
        if any(t.name == "hidden_scale" for t in model.graph.initializer)
        else "first_bias_scale"
    )
    plant(model, name, array(model, name) / 6)
    worst = only_culprit(diagnosed(mlp, model, mlp_feeds))
    assert (worst.kind, worst.name) == ("activation", "hidden")
    assert "clipped to [0, " in worst.fault


def test_clipped_weight_of_this_compiler(mlp: Path, mlp_feeds: list[Feed], quantized: Quantized) -> None:
    """Codes that saturate: scales a fifth of what the weight needs, codes cut accordingly."""
    model = quantized("mlp_ours")
    codes = next(t.name for t in model.graph.initializer if t.name.startswith("w3") and "scale" not in t.name)
    scale = next(t.name for t in model.graph.initializer if t.name.startswith("w3") and "scale" in t.name)
    plant(model, codes, np.clip(array(model, codes).astype(np.int32) * 5, -127, 127))
    plant(model, scale, array(model, scale) / 5)
    worst = only_culprit(diagnosed(mlp, model, mlp_feeds))
    assert (worst.kind, worst.name) == ("weight", "/y")
    assert "clipped to [" in worst.fault


def test_wrong_zero_point_of_a_weight(quantized: Quantized) -> None:
    model = quantized("digits_qdq")
    name = "pointwise.0.weight_zero_point"
    plant(model, name, array(model, name) + 20)
    worst = only_culprit(diagnosed(DIGITS, model, DIGITS_TEST))
    assert (worst.kind, worst.name) == ("weight", "/pointwise.0/Conv")
    assert "its zero point is off by -20 codes" in worst.fault


def test_wrong_zero_point_of_an_activation(quantized: Quantized) -> None:
    model = quantized("digits_qdq")
    plant(model, "getitem_6_zero_point", array(model, "getitem_6_zero_point").astype(np.int32) + 70)
    worst = only_culprit(diagnosed(DIGITS, model, DIGITS_TEST))
    assert (worst.kind, worst.name) == ("activation", "getitem_6")
    assert "zero point" in worst.fault


def test_wrong_scale_in_q_operators(quantized: Quantized) -> None:
    model = quantized("digits_qop")
    plant(model, "residual.second.0.weight_scale", array(model, "residual.second.0.weight_scale") * 0.4)
    worst = only_culprit(diagnosed(DIGITS, model, DIGITS_TEST))
    assert (worst.kind, worst.name) == ("weight", "/residual/second.0/Conv")
    assert "its scale is 0.4" in worst.fault


def test_clipped_range_in_q_operators(quantized: Quantized) -> None:
    model = quantized("digits_qop")
    plant(model, "conv2d_3_scale", array(model, "conv2d_3_scale") / 8)
    worst = only_culprit(diagnosed(DIGITS, model, DIGITS_TEST))
    assert (worst.kind, worst.name) == ("activation", "conv2d_3")
    assert "are cut" in worst.fault


def test_scales_that_differ_between_writing_and_reading(quantized: Quantized) -> None:
    model = quantized("digits_ours")
    node = next(
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] == "relu_3_quantized"
    )
    tensor = onnx.numpy_helper.from_array(array(model, node.input[1]) * np.float32(2), "other_scale")
    model.graph.initializer.append(tensor)
    node.input[1] = "other_scale"
    worst = only_culprit(diagnosed(DIGITS, model, DIGITS_TEST))
    assert (worst.kind, worst.name, worst.nodes) == ("activation", "relu_3", ("/pointwise.0/Conv",))
    assert "read back with scale" in worst.fault


def test_wrong_scale_in_a_transformer_quantized_at_run_time(quantized: Quantized) -> None:
    model = quantized("pydoc_dynamic")
    name = "model.layers.1.mlp.up_proj.weight_scale"
    plant(model, name, array(model, name) * 2)
    worst = only_culprit(diagnosed(PYDOC, model, PYDOC_TEST, samples=2))
    assert (worst.kind, worst.name) == ("weight", "/model/layers.1/mlp/up_proj/MatMul")
    assert "its scale is 2 times" in worst.fault


def test_wrong_zero_point_of_four_bit_blocks(quantized: Quantized) -> None:
    """Both codes of every byte of zero points, three too large."""
    model = quantized("pydoc_nbits")
    name = next(
        t.name
        for t in model.graph.initializer
        if "layers.2.self_attn.o_proj" in t.name and "zero_points" in t.name
    )
    packed = array(model, name)
    low, high = np.minimum((packed & 15) + 3, 15), np.minimum((packed >> 4) + 3, 15)
    plant(model, name, low | (high << 4))
    worst = only_culprit(diagnosed(PYDOC, model, PYDOC_TEST, samples=2))
    assert (worst.kind, worst.name) == ("weight", "/model/layers.2/self_attn/o_proj/MatMul")


def test_wrong_scale_of_nf4_blocks(quantized: Quantized) -> None:
    model = quantized("pydoc_bnb4")
    name = next(
        t.name for t in model.graph.initializer if "layers.0.mlp.down_proj" in t.name and "absmax" in t.name
    )
    plant(model, name, array(model, name) * 2.5)
    worst = only_culprit(diagnosed(PYDOC, model, PYDOC_TEST, samples=2))
    assert (worst.kind, worst.name) == ("weight", "/model/layers.0/mlp/down_proj/MatMul")
    assert "its scale is 2.49 times" in worst.fault


def test_clipped_activation_of_a_transformer_whose_weights_were_smoothed(quantized: Quantized) -> None:
    model = quantized("pydoc_ours")
    plant(model, "view_11_scale", array(model, "view_11_scale") / 10)
    worst = only_culprit(diagnosed(PYDOC, model, PYDOC_TEST, samples=2))
    assert (worst.kind, worst.name) == ("activation", "view_11")
    assert worst.nodes == ("/model/layers.1/self_attn/o_proj/MatMul",)
    assert "are cut" in worst.fault


@pytest.mark.parametrize("name", ["digits_qdq", "digits_qop", "digits_ours"])
def test_no_fault_is_found_where_none_was_planted(name: str, quantized: Quantized) -> None:
    found = diagnosed(DIGITS, quantized(name), DIGITS_TEST)
    assert not [item for item in found.culprits if item.fault]


def only_culprit(found: Diagnosis) -> Culprit:
    """The worst; a single one with a fault, whose place in float gives back what was lost."""
    faulty = [item for item in found.culprits if item.fault]
    assert len(faulty) == 1, [(item.name, item.fault) for item in found.culprits]
    worst = found.culprits[0]
    assert worst is faulty[0]
    before = min(item.sqnr_db for item in found.outputs if item.is_float)
    assert worst.effect is not None
    assert worst.effect.without > before + 3.0  # half of the noise at least; the plants cost 10 dB and more
    assert worst.name in found.verdict[0]
    assert any(node in remedy.command for remedy in found.remedies for node in worst.nodes)
    return worst
