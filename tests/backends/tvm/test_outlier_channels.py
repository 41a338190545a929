"""Outlier channels in a branch of their own: our kernels run all of it, and give what ONNX Runtime gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

import qcompiler
from qcompiler.pipeline.parse import parse_target
from tests.passes.graphs import graph, normal

pytestmark = pytest.mark.tvm

LOUD, WIDE = 7, 200
TVM = "tvm-cpu:host_only=true"


@pytest.mark.parametrize(
    ("quantizing", "kernel"),
    [("int8_static", "GemmInt8"), ("int4", "GemmLowBit")],
)
def test_both_runtimes_compute_the_same(tmp_path: Path, quantizing: str, kernel: str) -> None:
    first = normal(16, WIDE, seed=1)
    first[:, LOUD] *= 30
    model = graph(
        """<ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 5, 16] x) => (float[N, 5, 8] y) {
            p = MatMul (x, w1) s = Add (p, b1) h = Gelu (s) q = MatMul (h, w2) y = Add (b2, q)
        }""",
        {"w1": first, "b1": normal(WIDE, seed=2), "w2": normal(WIDE, 8, seed=3), "b2": normal(8, seed=4)},
    )
    feeds = [{"x": normal(2, 5, 16, seed=seed)} for seed in range(6)]
    results = {}
    for target in ("ort-cpu", TVM):
        made = qcompiler.compile(
            model,
            f"outlier_channels,{quantizing}",
            calibration=feeds,
            target=target,
            output=tmp_path / target.partition(":")[0],
            options=qcompiler.CompileOptions(verify="none"),
        )
        results[target] = parse_target(target).session(made.path).run(feeds[0])["y"].astype(np.float32)
    kernels = json.loads(made.path.read_text("utf-8"))["kernels"]
    assert sorted(kernels.values()) == ["FloatGemm", "FloatGemm", kernel, kernel]
    largest = float(np.abs(results["ort-cpu"]).max())
    # int8: the same codes, float sums in another order. int4: both round activations to int8, per block of their own.
    tolerance = 1e-6 if kernel == "GemmInt8" else 1e-2
    np.testing.assert_allclose(results[TVM], results["ort-cpu"], rtol=0, atol=tolerance * largest)
