"""Speed: what is much slower is found, noise is not, and helpers count for the node they stand around."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.base import NodeKey
from qcompiler.data.feeds import Feed
from qcompiler.verify.attribution import Attribution
from qcompiler.verify.speed import SpeedCheck, measure_speed, slowest_nodes

from .conftest import from_text

FLOAT = """
<ir_version: 10, opset_import: ["" : 21]>
net (float[N, 64] x) => (float[N, 64] y)
{
    a = MatMul (x, wa)
    t = Tanh (a)
    b = MatMul (t, wb)
    y = Tanh (b)
}
"""
# A weight that is expanded at every run, and activations that are quantized for nothing, around one node.
SLOW = """
<ir_version: 10, opset_import: ["" : 21]>
net (float[N, 64] x) => (float[N, 64] y)
{
    wa_dequantized = DequantizeLinear <axis = 1> (wa_quantized, wa_scale)
    a = MatMul (x, wa_dequantized)
    t = Tanh (a)
    t_quantized = QuantizeLinear (t, s, z)
    t_dequantized = DequantizeLinear (t_quantized, s, z)
    b = MatMul (t_dequantized, wb)
    y = Tanh (b)
}
"""
KEYS = [NodeKey("/a", "MatMul", ("a",)), NodeKey("/b", "MatMul", ("b",))]


def save(model: ir.Model, path: Path) -> Path:
    for node in model.graph:
        if node.op_type.endswith("Linear"):
            node.name = f"{node.inputs[0].name}_{node.op_type}" if node.inputs[0] else node.name
    ir.save(model, path)
    return path


@pytest.fixture
def float_path(tmp_path: Path) -> Path:
    weights = {name: np.eye(64, dtype=np.float32) for name in ("wa", "wb")}
    return save(from_text(FLOAT, **weights), tmp_path / "float.onnx")


@pytest.fixture
def slow_path(tmp_path: Path) -> Path:
    constants: dict[str, np.ndarray] = {
        "wa_quantized": np.eye(64, dtype=np.int8),
        "wa_scale": np.ones(64, np.float32),
        "s": np.array(0.01, np.float32),
        "z": np.array(0, np.uint8),
        "wb": np.eye(64, dtype=np.float32),
    }
    return save(from_text(SLOW, **constants), tmp_path / "slow.onnx")


@pytest.fixture
def feeds() -> list[Feed]:
    return [{"x": np.ones((count, 64), np.float32)} for count in (1, 2)]


def test_only_a_sure_loss_is_slower() -> None:
    assert SpeedCheck(0.9, 0.85, 0.99, 1.0, 1.1).slower
    assert not SpeedCheck(0.95, 0.85, 1.01, 1.0, 1.05).slower


def test_measured_in_turn(float_path: Path, feeds: list[Feed]) -> None:
    found = measure_speed(float_path, float_path, feeds, seconds=1.0)
    assert found.low <= found.ratio <= found.high
    assert found.float_ms > 0
    assert found.deployed_ms > 0


def test_the_node_that_loses_comes_first(float_path: Path, slow_path: Path, feeds: list[Feed]) -> None:
    costs = slowest_nodes(float_path, slow_path, feeds, KEYS)
    assert {cost.node for cost in costs} == {"/a", "/b"}
    assert costs == sorted(costs, key=lambda cost: cost.loss_us, reverse=True)


@pytest.mark.parametrize(
    ("profile_name", "owners"),
    [
        ("/a", ["/a"]),
        ("/a+/b", ["/a", "/b"]),
        ("/a_token_3", ["/a"]),
        ("/a/MatMulAddFusion", ["/a"]),
        ("wa_quantized_DequantizeLinear", ["/a"]),
        ("t_QuantizeLinear", ["/b"]),
        ("t_quantized_DequantizeLinear", ["/b"]),
        ("t_nchwc", ["/a"]),
        ("unheard_of", []),
    ],
)
def test_helpers_count_for_the_node_they_stand_around(
    slow_path: Path, profile_name: str, owners: list[str]
) -> None:
    assert Attribution.of_file(slow_path, KEYS).owners(profile_name, "MatMul") == owners
