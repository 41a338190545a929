"""RMSNorm as the torch exporter writes it is one node, and nothing that only looks like it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompiler.backends.onnxruntime.fusions.rms_norm import fuse_rms_norm

NORM = """
  p = Pow(x, two)
  m = ReduceMean <keepdims = 1> (p, axis)
  a = Add(m, eps)
  s = Sqrt(a)
  r = Reciprocal(s)
  n = Mul(x, r)
  y = Mul(gamma, n)
"""


def _model(body: str = NORM, opset: int = 21) -> ir.Model:
    return ir.from_onnx_text(f"""
<ir_version: 10, opset_import: ["": {opset}]>
g (float[B,S,6] x, float[B,S,6] other) => (float[B,S,6] y)
<float two = {{2.0}}, float three = {{3.0}}, float eps = {{0.25}}, int64[1] axis = {{-1}}, int64[1] rows = {{1}},
 float[B,S,1] r, float[6] gamma = {{1, -2, 3, 0, 5, 6}}, float[1] one_gamma = {{2}}>
{{ {body} }}""")


def _run(model: ir.Model) -> np.ndarray:
    rng = np.random.default_rng(5)
    feeds = {name: rng.standard_normal((2, 3, 6), dtype=np.float32) for name in ("x", "other")}
    feeds["x"][0, 0] = 0  # only epsilon is left
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    return np.asarray(session.run(["y"], feeds)[0])


@pytest.mark.parametrize(
    "body",
    [
        NORM,
        NORM.replace("Pow(x, two)", "Mul(x, x)"),
        NORM.replace("Mul(gamma, n)", "Mul(n, gamma)").replace("Mul(x, r)", "Mul(r, x)"),
        NORM.replace("Add(m, eps)", "Add(eps, m)"),
    ],
    ids=["exported", "product", "factors turned", "epsilon first"],
)
def test_rms_norm_is_one_node_with_the_same_result(body: str) -> None:
    model = _model(body)
    expected = _run(model)
    assert fuse_rms_norm(model) == 1
    assert [node.op_type for node in model.graph] == ["RMSNormalization"]
    assert model.opset_imports[""] == 23
    # A mean of six float32 squares by another kernel: a few units in the last place of at most 20.
    np.testing.assert_allclose(_run(model), expected, rtol=1e-5, atol=1e-6)
    assert fuse_rms_norm(model) == 0


@pytest.mark.parametrize(
    "model",
    [
        _model(NORM.replace("Pow(x, two)", "Pow(x, three)")),
        _model(NORM.replace("Pow(x, two)", "Mul(x, other)")),
        _model(NORM.replace("Mul(x, r)", "Mul(other, r)")),
        _model(NORM.replace("(p, axis)", "(p, rows)")),
        _model(NORM.replace("Mul(gamma, n)", "Mul(one_gamma, n)")),
        _model(NORM.replace("Mul(gamma, n)", "Mul(other, n)")),
        _model(opset=20),
    ],
    ids=["cubes", "product of two", "another value", "another axis", "one weight", "no constant", "opset"],
)
def test_rms_norm_refuses_what_only_looks_like_it(model: ir.Model) -> None:
    opset = model.opset_imports[""]
    assert fuse_rms_norm(model) == 0
    assert model.opset_imports[""] == opset


def test_values_inside_that_have_other_readers_stay() -> None:
    model = _model(NORM.replace("y = Mul(gamma, n)", "z = Mul(gamma, n) y = Add(z, r)"))
    expected = _run(model)
    assert fuse_rms_norm(model) == 1
    np.testing.assert_allclose(_run(model), expected, rtol=1e-5, atol=1e-6)
