"""Rotated activations end to end: one kernel each, and what ONNX Runtime computes by the function's body."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

import qcompiler
from qcompiler.backends.tvm.lower_hadamard import lower_hadamard
from qcompiler.graph.hadamard import is_rotation, rotated
from qcompiler.pipeline.parse import parse_target
from tests.backends.tvm.compiled import data, network
from tests.passes.graphs import graph

pytestmark = pytest.mark.tvm

TVM = "tvm-cpu:host_only=true"


def test_kernels_compute_what_the_body_says(tmp_path: Path) -> None:
    results = {}
    for target in ("ort-cpu", TVM):
        made = qcompiler.compile(
            network(),
            "hadamard:size=32,int8_dynamic:granularity=token",
            target=target,
            output=tmp_path / target.partition(":")[0],
            options=qcompiler.CompileOptions(verify="none"),
        )
        results[target] = parse_target(target).session(made.path).run(data(5))["y"].astype(np.float32)
    kernels = json.loads(made.path.read_text("utf-8"))["kernels"]
    assert sorted(kernels.values()) == ["GemmInt8"] * 3 + ["Hadamard"] * 3
    # Turned values differ by float rounding, and a value in the middle of two codes may go to the other: 1 of 255.
    tolerance = 0.01 * float(np.abs(results["ort-cpu"]).max())
    np.testing.assert_allclose(results[TVM], results["ort-cpu"], rtol=0, atol=tolerance)


def test_leaves_what_the_kernel_does_not_take() -> None:
    """Columns known only at run time, or no multiple of the vector length."""
    for columns in ("K", "8"):
        model = graph(
            f"""<ir_version: 10, opset_import: ["" : 21]>
            net (float[N, {columns}] x) => (float[N, {columns}] y) {{ y = Identity (x) }}""",
            {},
        )
        value = rotated(model, model.graph.inputs[0], 8, origin="Identity_0")
        model.graph.node("Identity_0").replace_input_with(0, value)
        assert lower_hadamard(model) == 0
        assert any(map(is_rotation, model.graph))
