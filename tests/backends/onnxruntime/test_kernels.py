"""Reading back what the runtime made, and mending what it left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from qcompiler.backends.base import NodeKey
from qcompiler.backends.onnxruntime.kernels import optimized_graph, read_kernels
from qcompiler.backends.onnxruntime.legalize import mend
from qcompiler.backends.onnxruntime.session import open_file, session_options
from tests.passes.graphs import Arrays, graph, normal

LINEAR = """
<ir_version: 10, opset_import: ["" : 21]>
net (float[T, 6] x) => (float[T, 4] y)
{{
    a = QuantizeLinear (x, xs, xz)
    b = DequantizeLinear (a, xs, xz)
    w = DequantizeLinear <axis = 1> (q, s, z)
    y = Gemm (b, w, {bias})
    {last}
}}
"""


def quantized_gemm(*, float_bias: bool) -> ir.Model:
    """A Gemm in QDQ; with a float bias the runtime does not fuse it."""
    constants: Arrays = {
        "q": np.random.default_rng(0).integers(-127, 128, (6, 4)).astype(np.int8),
        "s": np.full(4, 0.02, np.float32),
        "z": np.zeros(4, np.int8),
        "xs": np.array(0.03, np.float32),
        "xz": np.array(128, np.uint8),
    }
    if float_bias:
        return graph(LINEAR.format(bias="bias", last=""), {**constants, "bias": normal(4)})
    integer: Arrays = {"bq": np.arange(4, dtype=np.int32), "bs": np.full(4, 0.0006, np.float32)}
    text = LINEAR.format(bias="bd", last="").replace(
        "y = Gemm", "bd = DequantizeLinear <axis = 0> (bq, bs)\n y = Gemm"
    )
    return graph(text, {**constants, **integer})


def gemm_key(model: ir.Model) -> NodeKey:
    gemm = next(node for node in model.graph if node.op_type == "Gemm")
    return NodeKey(str(gemm.name), "Gemm", ("y",))


def test_a_fused_node_is_found_under_its_name(tmp_path: Path) -> None:
    model = quantized_gemm(float_bias=False)
    ir.save(model, tmp_path / "model.onnx")
    (kernel,) = read_kernels(tmp_path / "model.onnx", [gemm_key(model)])
    assert (kernel.kernel, kernel.integer) == ("QGemm", True)
    assert optimized_graph(tmp_path / "model.onnx").unfused_dequantizers() == set()


def test_a_weight_that_did_not_fuse_is_found_and_mended(tmp_path: Path) -> None:
    model, path = quantized_gemm(float_bias=True), tmp_path / "model.onnx"
    ir.save(model, path)
    x = {"x": normal(3, 6)}
    before = open_file(path, session_options(threads=1)).run(x)["y"]
    assert optimized_graph(path).unfused_dequantizers() == {"q"}
    assert len(mend(model, path)) == 1
    ir.save(model, path)
    assert optimized_graph(path).unfused_dequantizers() == set()
    assert mend(model, path) == []
    after = open_file(path, session_options(threads=1)).run(x)["y"]
    # The same products of the same float32 weights.
    np.testing.assert_allclose(after.astype(np.float32), before.astype(np.float32), rtol=1e-5, atol=1e-6)
    (kernel,) = read_kernels(path, [gemm_key(model)])
    assert not kernel.integer


def test_a_node_that_is_gone_is_said_to_be_fused(tmp_path: Path) -> None:
    model = quantized_gemm(float_bias=False)
    ir.save(model, tmp_path / "model.onnx")
    (kernel,) = read_kernels(tmp_path / "model.onnx", [NodeKey("nowhere", "Conv", ("nothing",))])
    assert (kernel.kernel, kernel.integer) == ("", False)
    assert "fused" in kernel.note
