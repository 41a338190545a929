"""Real models compute the same after preparation; run with QCOMPILER_ASSETS=<folder of the models>."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.qcompiler.prepare.running import Feeds, check_equivalent, op_types

FOLDER = os.environ.get("QCOMPILER_ASSETS", "")
RNG = np.random.default_rng(1)

pytestmark = pytest.mark.skipif(not FOLDER, reason="QCOMPILER_ASSETS does not name a folder of real models")

FEEDS: dict[str, Feeds] = {
    "mobilenet_v1/mobilenet_v1_0.75_224.onnx": {
        "input": RNG.uniform(-1, 1, (1, 3, 224, 224)).astype(np.float32)
    },
    "resnet20_cifar10/resnet20_cifar10.onnx": {
        "input": RNG.standard_normal((2, 3, 32, 32)).astype(np.float32)
    },
    "magika/standard_v3_3.onnx": {"bytes": RNG.integers(0, 256, (2, 2048)).astype(np.int32)},
    "stories260k/stories260k.onnx": {"input_ids": RNG.integers(0, 512, (2, 9))},
    "ultraface/version-RFB-320.onnx": {"input": RNG.uniform(-1, 1, (1, 3, 240, 320)).astype(np.float32)},
    "silero_vad/silero_vad.onnx": {
        "input": RNG.uniform(-0.1, 0.1, (1, 576)).astype(np.float32),
        "state": np.zeros((2, 1, 128), np.float32),
        "sr": np.array(16000),
    },
}
EXPECTED = {
    "mobilenet_v1/mobilenet_v1_0.75_224.onnx": {"Conv": 28, "Clip": 27, "GlobalAveragePool": 1, "Flatten": 1},
    "ultraface/version-RFB-320.onnx": {"Conv": 52, "Softmax": 1},
    "resnet20_cifar10/resnet20_cifar10.onnx": {"Conv": 19, "Gemm": 1, "BatchNormalization": 0},
    "stories260k/stories260k.onnx": {"MatMul": 46, "Constant": 0},
    "silero_vad/silero_vad.onnx": {"LSTM": 2, "Constant": 0},
}


@pytest.mark.parametrize("name", FEEDS)
def test_same_outputs(name: str) -> None:
    path = Path(FOLDER) / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    model, report = check_equivalent(onnx.load(path), FEEDS[name])
    assert report.opset_after == 21
    counts = Counter(op_types(model))
    for op_type, count in EXPECTED.get(name, {}).items():
        assert counts[op_type] == count
    for node in model.graph.all_nodes():
        if node.op_type in ("LSTM", "Conv"):
            assert node.inputs[1] is not None
            assert node.inputs[1].is_initializer()
