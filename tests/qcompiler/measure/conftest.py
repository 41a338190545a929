"""Two tiny models with one input ``x`` float[1, 64]: a chain of MatMuls, inline and with external data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

WIDTH = 64


def chain_model(layers: int) -> ir.Model:
    """``layers`` times MatMul and Tanh, nodes ``matmul_<i>`` and ``tanh_<i>``."""
    value = x = ir.val("x", dtype=ir.DataType.FLOAT, shape=[1, WIDTH])
    nodes, initializers = [], []
    random = np.random.default_rng(0)
    for index in range(layers):
        weight = random.normal(size=(WIDTH, WIDTH)).astype(np.float32)
        initializers.append(ir.val(f"w{index}", const_value=ir.tensor(weight, name=f"w{index}")))
        nodes.append(ir.node("MatMul", [value, initializers[-1]], name=f"matmul_{index}"))
        nodes.append(ir.node("Tanh", [nodes[-1].outputs[0]], name=f"tanh_{index}"))
        value = nodes[-1].outputs[0]
    value.name, value.dtype, value.shape = "y", ir.DataType.FLOAT, ir.Shape([1, WIDTH])
    graph = ir.Graph(
        [x], [value], nodes=nodes, initializers=initializers, opset_imports={"": 21}, name="chain"
    )
    return ir.Model(graph, ir_version=10)


@pytest.fixture(scope="session")
def short_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("measure") / "short.onnx"
    ir.save(chain_model(2), path)
    return path


@pytest.fixture(scope="session")
def long_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve times the work, weights as external data."""
    path = tmp_path_factory.mktemp("measure") / "long.onnx"
    ir.save(chain_model(24), path, external_data="long.onnx.data", size_threshold_bytes=0)
    return path


@pytest.fixture
def feed() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    return {"x": np.random.default_rng(1).normal(size=(1, WIDTH)).astype(np.float32)}
