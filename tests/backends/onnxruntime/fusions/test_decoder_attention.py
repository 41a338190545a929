"""Attention of decoders: rotary positions, and heads of keys and values that groups of queries share."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompiler.backends.onnxruntime.fusions.attention import fuse_attention

POSITIONS = """
  steps = Range(zero_i, length, one_i)
  steps_float = Cast <to = 1> (steps)
  column = Unsqueeze(steps_float, zero_and_two)
  angles = Mul(column, frequency)
  waves = Concat <axis = -1> (angles, angles)
  cos = Cos(waves)
  sin = Sin(waves)
  cosines = Unsqueeze(cos, one)
  sines = Unsqueeze(sin, one)
"""


def _turned(x: str) -> str:
    return f"""
  {x}4 = Reshape({x}, split)
  {x}h = Transpose <perm = [0, 2, 1, 3]> ({x}4)
  {x}kept = Mul({x}h, cosines)
  {x}low = Slice({x}h, zero, half, three, one)
  {x}high = Slice({x}h, half, end, three, one)
  {x}negated = Neg({x}high)
  {x}swapped = Concat <axis = -1> ({x}negated, {x}low)
  {x}crossed = Mul({x}swapped, sines)
  {x}r = Add({x}kept, {x}crossed)
"""


def _repeated(x: str) -> str:
    return f"{x}l = Unsqueeze({x}, two) {x}w = Expand({x}l, wide) {x}all = Reshape({x}w, merged)\n"


BODY = f"""
  shape = Shape(q)
  batch = Slice(shape, zero, one)
  rows = Slice(shape, one, two)
  length = Squeeze(rows, zero)
  wide = Concat <axis = 0> (batch, two, two, rows, four)
  merged = Concat <axis = 0> (batch, four, rows, four)
  {POSITIONS}
  {_turned("q")}
  {_turned("k")}
  v4 = Reshape(v, split)
  vh = Transpose <perm = [0, 2, 1, 3]> (v4)
  {_repeated("kr")}
  {_repeated("vh")}
  kt = Transpose <perm = [0, 1, 3, 2]> (krall)
  scores = MatMul(qr, kt)
  smaller = Mul(scores, factor)
  mask = Where(seen, nothing, lowest)
  masked = Add(smaller, mask)
  p = Softmax <axis = -1> (masked)
  c = MatMul(p, vhall)
  ct = Transpose <perm = [0, 2, 1, 3]> (c)
  y = Reshape(ct, join)
"""


def _model(body: str = BODY, angles: str = "float[1,S,2]", batch: str = "B") -> ir.Model:
    """Four heads of queries and two of keys and values, of four numbers each."""
    shapes = "".join(
        f"float[B,S,{heads},4] {x}4, float[B,{heads},S,4] {x}h, float[B,{heads},S,4] {x}r, "
        for x, heads in (("q", 4), ("k", 2), ("v", 2))
    )
    text = f"""
<ir_version: 10, opset_import: ["": 21]>
g (float[B,S,16] q, float[B,S,8] k, float[B,S,8] v, bool[B,1,S,S] seen, float[B,1,S,S] other, float[B,S,2] positions)
  => (float[B,S,16] y)
<int64[4] split = {{0, 0, -1, 4}}, int64[3] join = {{0, 0, 16}}, float[2] frequency = {{1.0, 0.1}},
 int64 zero_i = {{0}}, int64 one_i = {{1}}, int64[2] zero_and_two = {{0, 2}}, int64[1] zero = {{0}},
 int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] half = {{2}}, int64[1] three = {{3}}, int64[1] four = {{4}},
 int64[2] flat = {{-1, 16}}, int64[3] copied = {{0, -1, 16}}, int64[1] sixteen = {{16}},
 int64[1] end = {{9223372036854775807}}, float factor = {{0.5}}, float nothing = {{0.0}},
 float lowest = {{-3.4028234663852886e38}}, float doubled = {{1.5}},
 {shapes} float[B,2,2,S,4] krw, float[B,2,2,S,4] vhw, float[B,4,S,4] krall, float[B,4,S,4] vhall,
 {angles} angles, float[B,1,S,S] mask>
{{ {body} }}"""
    return ir.from_onnx_text(text.replace("[B,", f"[{batch},"))


def _run(model: ir.Model, batch: int = 2, length: int = 5) -> np.ndarray:
    rng = np.random.default_rng(3)
    feeds = {
        name: rng.standard_normal((batch, length, width), dtype=np.float32)
        for name, width in (("q", 16), ("k", 8), ("v", 8), ("positions", 2))
    }
    seen = np.tile(np.tri(length, dtype=bool), (batch, 1, 1, 1))
    seen[-1, :, :, : length // 2] = False  # padding on the left: its rows see nothing
    feeds |= {"seen": seen, "other": np.where(seen, np.float32(0), np.float32(-1e4))}
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString())
    names = {value.name for value in session.get_inputs()}
    return np.asarray(session.run(["y"], {name: feeds[name] for name in feeds if name in names})[0])


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        BODY.replace("cosines = Unsqueeze(cos, one)", "cs = Mul(cos, doubled) cosines = Unsqueeze(cs, one)"),
    ],
    ids=["plain", "tables times a constant"],
)
def test_positions_and_shared_heads_join_attention(body: str) -> None:
    model = _model(body)
    shapes = [(2, 5), (1, 1), (3, 2)]
    expected = [_run(model, *shape) for shape in shapes]
    assert fuse_attention(model) == 1
    ops = [node.op_type for node in model.graph]
    assert ops.count("RotaryEmbedding") == 2
    assert ops.count("Attention") == 1
    assert not {"Softmax", "MatMul", "Expand", "Transpose", "Neg", "Reshape"} & set(ops)
    attention = next(node for node in model.graph if node.op_type == "Attention")
    assert (attention.attributes["q_num_heads"].as_int(), attention.attributes["kv_num_heads"].as_int()) == (
        4,
        2,
    )
    for shape, before in zip(shapes, expected, strict=True):
        # The same sums of at most five float32 terms in another order.
        np.testing.assert_allclose(_run(model, *shape), before, rtol=1e-5, atol=1e-6)
    assert fuse_attention(model) == 0


def test_rows_that_see_nothing_stay_the_average_of_the_values() -> None:
    model = _model()
    before = _run(model)
    assert before[-1, 0].any()
    assert fuse_attention(model) == 1
    np.testing.assert_allclose(_run(model)[-1, 0], before[-1, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mask = Where(seen, nothing, lowest)", "mask = Identity(other)"),
        ("qnegated = Neg(qhigh)", "qnegated = Neg(qlow)"),
        ("qlow = Slice(qh, zero, half, three, one)", "qlow = Slice(qh, zero, half, three, two)"),
        ("Concat <axis = -1> (knegated, klow)", "Concat <axis = -1> (klow, knegated)"),
        ("kcrossed = Mul(kswapped, sines)", "kcrossed = Mul(kswapped, cosines)"),
        (
            "waves = Concat <axis = -1> (angles, angles)",
            "cut = Neg(angles) waves = Concat <axis = -1> (angles, cut)",
        ),
        ("vhl = Unsqueeze(vh, two)", "vhl = Unsqueeze(vh, one)"),
        ("kt = Transpose <perm = [0, 1, 3, 2]> (krall)", "kt = Transpose(krall)"),
    ],
    ids=[
        "mask unknown",
        "one half twice",
        "every second number",
        "halves kept in order",
        "one table twice",
        "halves of the table differ",
        "repeated another way",
        "transposed without perm",
    ],
)
def test_what_is_not_proven_is_refused(old: str, new: str) -> None:
    assert old in BODY
    assert fuse_attention(_model(BODY.replace(old, new))) == 0


def test_positions_of_each_sample_are_refused() -> None:
    body = BODY.replace("angles = Mul(column, frequency)", "angles = Identity(positions)")
    model = _model(body, angles="float[B,S,2]")
    assert np.isfinite(_run(model)).all()
    assert fuse_attention(model) == 0


@pytest.mark.parametrize(("shape", "count"), [("flat", 1), ("copied", 0)])
def test_a_reshape_that_joins_more_than_heads_stays(shape: str, count: int) -> None:
    body = BODY.replace(
        "y = Reshape(ct, join)", f"rows_of_all = Reshape(ct, {shape}) y = Reshape(rows_of_all, back)"
    )
    model = _model(
        body.replace("wide = Concat", "back = Concat <axis = 0> (batch, rows, sixteen) wide = Concat")
    )
    before = _run(model)
    assert fuse_attention(model) == count
    np.testing.assert_allclose(_run(model), before, rtol=1e-5, atol=1e-6)


def test_a_batch_that_is_always_empty_is_refused() -> None:
    """The runtime's Attention does not run on it."""
    assert fuse_attention(_model(batch="0")) == 0
