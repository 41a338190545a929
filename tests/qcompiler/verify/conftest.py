"""A small residual network in float and in int8, and data for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import ShapeInferencePass

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.data.feeds import Feed
from qcompiler.passes.int8_static import Int8Static
from qcompiler.pipeline.run import Pipeline

NETWORK = """
<ir_version: 10, opset_import: ["" : 21]>
net (float[N, 8, 8, 8] x) => (float[N, 4] y, int64[N] label)
{
    first = Conv <pads = [1, 1, 1, 1]> (x, w1)
    active = Relu (first)
    second = Conv <pads = [1, 1, 1, 1]> (active, w2)
    sum = Add (second, active)
    third = Conv (sum, w3)
    pooled = GlobalAveragePool (third)
    flat = Flatten (pooled)
    y = MatMul (flat, w4)
    label = ArgMax <axis = 1, keepdims = 0> (y)
}
"""


def from_text(text: str, **constants: np.ndarray) -> ir.Model:
    """A model whose undefined names are the constants; nodes are named after their first output."""
    model = ir.from_onnx_text(
        text, initializers=[ir.tensor(array, name=name) for name, array in constants.items()]
    )
    for node in model.graph.all_nodes():
        node.name = f"/{node.outputs[0].name}"
    ShapeInferencePass()(model)
    return model


@pytest.fixture
def reference() -> ir.Model:
    random = np.random.default_rng(0)
    shapes = {"w1": (8, 8, 3, 3), "w2": (8, 8, 3, 3), "w3": (8, 8, 1, 1), "w4": (8, 4)}
    constants = {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}
    return from_text(NETWORK, **constants)


@pytest.fixture
def feeds() -> list[Feed]:
    """Batches of two sizes."""
    random = np.random.default_rng(1)
    return [{"x": random.normal(size=(count, 8, 8, 8)).astype(np.float32)} for count in (8, 3, 8)]


@pytest.fixture
def dialect(reference: ir.Model, feeds: list[Feed]) -> ir.Model:
    names = frozenset(str(node.name) for node in reference.graph)
    model, _ = Pipeline(reference, [Int8Static()], OrtCpu(), names, feeds).run()  # type: ignore[arg-type]
    return model


@pytest.fixture
def deployed(dialect: ir.Model, tmp_path: Path) -> Callable[[str, float], Path]:
    """Write the dialect as it is, with the constant of that name multiplied by a factor."""

    def write(constant: str = "", factor: float = 1.0) -> Path:
        model = dialect.clone()
        if constant:
            value = model.graph.initializers[constant]
            assert value.const_value is not None
            array = (value.const_value.numpy() * factor).astype(np.float32)
            value.const_value = ir.tensor(array, name=constant)
        path = tmp_path / "deployed.onnx"
        ir.save(model, path)
        return path

    return write
