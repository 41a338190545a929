"""Folding a factor into what makes a value: algebra for every rule, nothing changed while planning."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.graph.fold import Fold, apply_fold, plan_fold
from qcompiler.graph.fold_rules import CannotFoldError
from tests.passes.graphs import Arrays, graph, normal

Float32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
CONSTANTS: Arrays = {
    "vector": normal(8, seed=1),
    "image_vector": normal(8, 1, 1, seed=2),
    "scalar": np.array(3, np.float32),
    "zero": np.array(0, np.float32),
    "six": np.array(6, np.float32),
    "most": np.array(np.finfo(np.float32).max, np.float32),
    "square": normal(8, 8, seed=3),
    "kernel": normal(8, 8, 3, 3, seed=4),
    "turned": normal(8, 8, 2, 2, seed=5),
    "to_heads": np.array([2, 3, 4, 2], np.int64),
    "to_rows": np.array([-1, 8], np.int64),
    "apart": np.array([2, 4, 6], np.int64),
    "last": np.array([-1], np.int64),
    "first": np.array([0], np.int64),
    "positions": normal(3, 8, seed=6),
    "positions2": normal(8, 8, seed=7),
    "back": np.array([2, 3, 8], np.int64),
    "mask": np.array([True, False, True]).reshape(3, 1),
}


def net(body: str, shape: tuple[int, ...]) -> ir.Model:
    """A model whose ``h`` is to be scaled; the constants it does not name are left out."""
    words = set(re.findall(r"\w+", body))
    used = {name: array for name, array in CONSTANTS.items() if name in words}
    output = ", ".join("ABCDEFG"[: len(shape)])
    return graph(
        f"""
        <ir_version: 10, opset_import: ["" : 23]>
        net (float[{", ".join(map(str, shape))}] x) => (float[{output}] y) {{ {body} y = Tanh (h) }}
        """,
        used,
    )


def plan(model: ir.Model, factor: Float32) -> Fold:
    tanh = next(node for node in model.graph if node.op_type == "Tanh")
    value = tanh.inputs[0]
    assert value is not None
    return plan_fold(value, factor, [(tanh, 0)], copies=True)


def made(model: ir.Model, x: Float32) -> Float32:
    """What the Tanh reads."""
    seen = model.clone()
    tanh = next(node for node in seen.graph if node.op_type == "Tanh")
    value = tanh.inputs[0]
    assert value is not None
    seen.graph.outputs[:] = [value]
    session = open_model(seen, session_options(threads=1, optimize=False))
    return next(iter(session.run({"x": x}).values())).astype(np.float32)


def folded(model: ir.Model, factor: Float32) -> ir.Model:
    result = model.clone()
    scaled = apply_fold(plan(result, factor))
    next(node for node in result.graph if node.op_type == "Tanh").replace_input_with(0, scaled)
    return result


ROWS = (2, 3, 8)
IMAGE = (2, 8, 6, 6)
FOLDS = [
    ("h = LayerNormalization (x, vector, vector)", ROWS),
    ("h = RMSNormalization (x, vector)", ROWS),
    ("h = Mul (x, vector)", ROWS),
    ("h = Mul (scalar, x)", ROWS),
    ("h = Div (x, vector)", ROWS),
    ("h = Div (vector, x)", ROWS),
    ("a = Mul (x, vector) h = Add (a, positions)", ROWS),
    ("a = Mul (x, vector) h = Sub (vector, a)", ROWS),
    ("a = Mul (x, vector) h = Where (mask, a, zero)", ROWS),
    ("a = Mul (x, vector) h = Where (mask, vector, a)", ROWS),
    ("h = MatMul (x, square)", ROWS),
    ("t = Transpose <perm = [1, 0]> (square) h = MatMul (x, t)", ROWS),
    ("a = MatMul (x, square) b = MatMul (x, positions2) h = Add (a, b)", ROWS),
    ("r = Reshape (x, to_rows) a = Gemm (r, square, vector) h = Reshape (a, back)", ROWS),
    ("r = Reshape (x, to_rows) a = Gemm <transB = 1> (r, square) h = Reshape (a, back)", ROWS),
    ("a = MatMul (x, square) u = Unsqueeze (a, first) b = Relu (u) h = Squeeze (b, first)", ROWS),
    ("s = Sigmoid (x) a = MatMul (x, square) h = Mul (s, a)", ROWS),
    ("s = Sigmoid (x) a = MatMul (x, square) h = Div (a, s)", ROWS),
    ("a = Mul (x, vector) b = Max (a, zero) h = Min (b, most)", ROWS),
    ("h = Conv <pads = [1, 1, 1, 1]> (x, kernel, vector)", IMAGE),
    ("h = ConvTranspose (x, turned, vector)", IMAGE),
    ("a = Mul (x, image_vector) h = MaxPool <kernel_shape = [2, 2]> (a)", IMAGE),
    ("a = Mul (x, image_vector) b = Clip (a, zero) h = GlobalAveragePool (b)", IMAGE),
]


@pytest.mark.parametrize(("body", "shape"), FOLDS)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_the_value_becomes_factor_times_as_large(body: str, shape: tuple[int, ...], seed: int) -> None:
    model = net(body, shape)
    factor = np.exp(np.random.default_rng(seed).uniform(-4, 4, 8)).astype(np.float32)
    if shape is IMAGE:
        factor = factor.reshape(8, 1, 1)
    x = normal(*shape, seed=8) + np.float32(0.1)
    before = made(model, x)
    after = made(folded(model, factor), x)
    # Constants are rounded once more, sums run over up to 72 products: some 1e-6 of the largest of a channel.
    largest = np.abs(before * factor).max(axis=-1 if shape is ROWS else (2, 3), keepdims=True)
    np.testing.assert_allclose(after, before * factor, rtol=1e-5, atol=1e-5 * float(largest.max()))


def test_planning_changes_nothing() -> None:
    model = net("a = MatMul (x, square) b = Add (a, vector) h = Relu (b)", ROWS)
    before = ir.to_proto(model).SerializeToString()
    plan(model, np.full(8, 2, np.float32))
    assert ir.to_proto(model).SerializeToString() == before


REFUSALS = [
    ("h = Gelu (x)", "no scale passes through Gelu 'Gelu_0'"),
    ("h = Softmax (x)", "no scale passes through Softmax"),
    ("h = Relu (x)", "it comes from 'x', a graph input"),
    ("a = Mul (x, vector) h = Clip (a, zero, six)", "finite bound"),
    ("a = Mul (x, vector) h = Max (a, six)", "finite bound"),
    ("h = Add (x, vector)", "a graph input"),
    ("a = MatMul (x, square) h = Concat <axis = -1> (a, a)", "no scale passes through Concat"),
    ("a = MatMul (x, square) b = MatMul (x, square) h = Add (a, b)", "is tied to another node's"),
    ("a = MatMul (x, square) b = Relu (a) c = Exp (a) h = Add (b, c)", "reads it unscaled too"),
    ("a = MatMul (x, square) h = Mul (a, a)", "reads it unscaled too"),
    ("a = MatMul (x, square) b = Reshape (a, apart) h = Reshape (b, back)", "channels apart"),
]


@pytest.mark.parametrize(("body", "reason"), REFUSALS)
def test_what_cannot_take_the_factor_says_why(body: str, reason: str) -> None:
    with pytest.raises(CannotFoldError) as caught:
        plan(net(body, ROWS), np.full(8, 2, np.float32))
    assert reason in str(caught.value)


@pytest.mark.parametrize("ending", ["n = Mul (x, vector)", "m = Mul (x, vector) n = Add (m, vector)"])
def test_readers_of_the_unscaled_value_keep_it(ending: str) -> None:
    model = net(f"{ending} other = Exp (n) h = Identity (n)", ROWS)
    readers = [node for node in model.graph if node.op_type == "Identity"]
    value = readers[0].inputs[0]
    assert value is not None
    fold = plan_fold(value, np.full(8, 2, np.float32), [(readers[0], 0)], copies=True)
    scaled = apply_fold(fold)
    assert scaled is not value
    assert fold.copies() == ending.count("=")
    assert [use.node.op_type for use in value.uses()] == ["Exp", "Identity"]
    with pytest.raises(CannotFoldError, match="duplicating it is not allowed"):
        plan_fold(value, np.full(8, 2, np.float32), [(readers[0], 0)], copies=False)


def test_heads_follow_their_channels_through_attention() -> None:
    body = (
        "u = MatMul (x, square) us = Reshape (u, to_heads) ut = Transpose <perm = [0, 2, 1, 3]> (us)"
        " k = Transpose <perm = [0, 1, 3, 2]> (ut) q = Exp (ut) s = MatMul (q, k) p = Softmax (s)"
        " v = MatMul (x, positions2) vs = Reshape (v, to_heads) vt = Transpose <perm = [0, 2, 1, 3]> (vs)"
        " o = MatMul (p, vt) b = Transpose <perm = [0, 2, 1, 3]> (o) h = Reshape (b, back)"
    )
    model = net(body, ROWS)
    factor = np.geomspace(0.1, 10, 8).astype(np.float32)
    x = normal(*ROWS, seed=8)
    before = made(model, x)
    # As above: rounding of constants and of sums of eight products.
    np.testing.assert_allclose(made(folded(model, factor), x), before * factor, rtol=1e-4, atol=1e-5)
