"""Float fusions leave the result as it was."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompiler.backends.onnxruntime.fusions import fuse_all
from qcompiler.backends.onnxruntime.fusions.attention import fuse_attention
from qcompiler.backends.onnxruntime.fusions.residual_norm import fuse_residual_norm

DIRECT = "kt = Transpose <perm = [0, 1, 3, 2]> (kh)"
THROUGH_VIEW = """
  shape = Shape(kh)
  rows = Slice(shape, minus_two, minus_one)
  columns = Slice(shape, minus_one, end)
  leading = Slice(shape, start, minus_two)
  flat = Concat <axis = 0> (minus_one, rows, columns)
  full = Concat <axis = 0> (leading, columns, rows)
  k3 = Reshape(kh, flat)
  k3t = Transpose <perm = [0, 2, 1]> (k3)
  kt = Reshape(k3t, full)
"""
SCORES = "scores = MatMul(qs, ks) masked = Add(scores, mask) p = Softmax <axis = -1> (masked)"


def _attention(keys: str = DIRECT, scores: str = SCORES, mask_rows: str = "S", mask: str = "") -> ir.Model:
    """Two heads of four; the mask is an input, or what ``mask`` makes of ``blocked`` or ``other``.

    ``dead`` marks queries whose result is zero.
    """
    given, between = f"float[B,1,{mask_rows},S] mask", ""
    if mask:
        given, between = "bool[B,1,S,S] blocked, float[B,1,S,S] other", ", float[B,1,S,S] mask"
    return ir.from_onnx_text(f"""
<ir_version: 10, opset_import: ["": 21]>
g (float[B,S,8] q, float[B,S,8] k, float[B,S,8] v, {given}, bool[B,1,S,1] dead)
  => (float[B,S,8] y)
<int64[4] split = {{0, 0, 2, 4}}, int64[3] join = {{0, 0, 8}}, float half = {{0.7}}, float zero = {{0.0}},
 int64[1] minus_one = {{-1}}, int64[1] minus_two = {{-2}}, int64[1] start = {{-9223372036854775808}},
 int64[1] end = {{9223372036854775807}}, float[B,S,2,4] q4, float[B,S,2,4] k4, float[B,S,2,4] v4{between},
 float lowest = {{-3e38}}>
{{
  {mask}
  q4 = Reshape(q, split)
  qh = Transpose <perm = [0, 2, 1, 3]> (q4)
  k4 = Reshape(k, split)
  kh = Transpose <perm = [0, 2, 1, 3]> (k4)
  v4 = Reshape(v, split)
  vh = Transpose <perm = [0, 2, 1, 3]> (v4)
  {keys}
  qs = Mul(qh, half)
  ks = Mul(kt, half)
  {scores}
  c = MatMul(p, vh)
  alive = Where(dead, zero, c)
  ct = Transpose <perm = [0, 2, 1, 3]> (alive)
  y = Reshape(ct, join)
}}""")


def _feeds() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    feeds = {name: rng.standard_normal((2, 5, 8), dtype=np.float32) for name in "qkv"}
    feeds["mask"] = np.zeros((2, 1, 5, 5), np.float32)
    feeds["mask"][0, :, :, 3:] = np.finfo(np.float32).min
    feeds["mask"][1] = np.finfo(np.float32).min
    feeds["dead"] = np.zeros((2, 1, 5, 1), bool)
    feeds["dead"][1] = True
    return feeds


def _run(model: ir.Model, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    return np.asarray(session.run(["y"], feeds)[0])


@pytest.mark.parametrize("keys", [DIRECT, THROUGH_VIEW], ids=["direct", "through view"])
def test_attention_with_masked_keys_and_dead_rows(keys: str) -> None:
    model = _attention(keys)
    expected = _run(model, _feeds())
    assert fuse_attention(model) == 1
    ops = {node.op_type for node in model.graph}
    assert ops == {"Max", "Attention", "Squeeze", "Where"}
    assert model.opset_imports[""] == 23
    # The same sums of at most five float32 terms in another order.
    np.testing.assert_allclose(_run(model, _feeds()), expected, rtol=1e-5, atol=1e-6)
    assert fuse_attention(model) == 0


@pytest.mark.parametrize(
    "model",
    [
        _attention(mask_rows="1"),
        _attention(scores=SCORES.replace("axis = -1", "axis = -2")),
        _attention(keys=DIRECT.replace("0, 1, 3, 2", "0, 3, 1, 2")),
    ],
    ids=["mask that broadcasts rows", "softmax over queries", "keys turned otherwise"],
)
def test_attention_refuses_what_only_looks_like_it(model: ir.Model) -> None:
    assert fuse_attention(model) == 0
    assert model.opset_imports[""] == 21


def _residual(second: str) -> ir.Model:
    return ir.from_onnx_text(f"""
<ir_version: 10, opset_import: ["": 21]>
g (float[2,3,8] a, float[2,3,8] b) => (float[2,3,8] y)
<float[8] gamma = {{1, 2, 3, 4, 5, 6, 7, 8}}, float[8] beta = {{8, 7, 6, 5, 4, 3, 2, 1}}>
{{
  s = Add(a, {second})
  y = LayerNormalization(s, gamma, beta)
}}""")


def test_residual_norm_keeps_the_fast_kernels_apart() -> None:
    model = _residual("b")
    rng = np.random.default_rng(2)
    feeds = {name: rng.standard_normal((2, 3, 8), dtype=np.float32) for name in "ab"}
    expected = _run(model, feeds)
    assert fuse_residual_norm(model) == 1
    assert [node.op_type for node in model.graph] == ["Sum", "LayerNormalization"]
    # One addition and one norm of eight values, by another kernel: a few units in the last place of at most 20.
    np.testing.assert_allclose(_run(model, feeds), expected, rtol=1e-5, atol=1e-5)
    assert fuse_residual_norm(model) == 0


def test_residual_norm_leaves_a_bias_alone() -> None:
    assert fuse_residual_norm(_residual("beta")) == 0


def test_residual_norm_takes_an_addition_before_it_along() -> None:
    model = ir.from_onnx_text("""
<ir_version: 10, opset_import: ["": 21]>
g (float[2,3,8] a, float[2,3,8] b) => (float[2,3,8] y)
<float[8] gamma = {1, 2, 3, 4, 5, 6, 7, 8}, float[8] beta = {8, 7, 6, 5, 4, 3, 2, 1}>
{ n = Neg(a) inner = Add(b, n) s = Add(a, inner) c = Cos(s) t = Add(c, s) y = LayerNormalization(t, gamma, beta) }""")
    rng = np.random.default_rng(2)
    feeds = {name: rng.standard_normal((2, 3, 8), dtype=np.float32) for name in "ab"}
    expected = _run(model, feeds)
    assert fuse_residual_norm(model) == 1  # s has two readers and stays an Add of its own
    assert [node.op_type for node in model.graph] == ["Neg", "Add", "Add", "Cos", "Sum", "LayerNormalization"]
    np.testing.assert_allclose(_run(model, feeds), expected, rtol=1e-5, atol=1e-5)
    model = ir.from_onnx_text("""
<ir_version: 10, opset_import: ["": 21]>
g (float[2,3,8] a, float[2,3,8] b) => (float[2,3,8] y)
<float[8] gamma = {1, 2, 3, 4, 5, 6, 7, 8}, float[8] beta = {8, 7, 6, 5, 4, 3, 2, 1}>
{ n = Neg(a) inner = Add(b, n) s = Add(a, inner) y = LayerNormalization(s, gamma, beta) }""")
    expected = _run(model, feeds)
    assert fuse_residual_norm(model) == 1
    assert [node.op_type for node in model.graph] == ["Neg", "Sum", "LayerNormalization"]
    # The same three terms in another order: a few units in the last place of at most 20.
    np.testing.assert_allclose(_run(model, feeds), expected, rtol=1e-5, atol=1e-5)


FINITE = "flags = Cast <to = 1> (blocked) mask = Mul(flags, lowest)"


@pytest.mark.parametrize(("mask", "op"), [(FINITE, "Mul"), ("mask = Identity(other)", "Where")])
def test_dead_rows_are_multiplied_away_where_the_mask_is_finite(mask: str, op: str) -> None:
    model = _attention(mask=mask)
    blocked = np.zeros((2, 1, 5, 5), bool)
    blocked[0, :, :, 3:] = True
    blocked[1, :, 2] = True
    feeds = {
        **_feeds(),
        "blocked": blocked,
        "other": np.where(blocked, np.finfo(np.float32).min, np.float32(0)),
    }
    feeds["dead"] = np.asarray(blocked.all(axis=3, keepdims=True))
    del feeds["mask"]
    expected = _run(model, feeds)
    assert fuse_attention(model) == 1
    assert model.graph.outputs[0].producer().op_type == op  # type: ignore[union-attr]
    got = _run(model, feeds)
    # The fused kernel sums in another order; values are of order one.
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    assert not got[1, 2].any()


def test_all_fusions_are_counted_by_name() -> None:
    assert fuse_all(_attention()) == {"attention": 1, "rms_norm": 0, "residual_norm": 0}
