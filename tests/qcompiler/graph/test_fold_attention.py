"""What fused attention lets pass, checked by running it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.graph.fold import apply_fold, plan_fold
from qcompiler.graph.fold_attention import tied_channels
from qcompiler.graph.fold_rules import CannotFoldError
from tests.passes.graphs import Arrays, graph, normal

GROUPED = """
    mixed, k1, v1 = com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2> (q, k, v, , , last, total)
"""
MULTI_HEAD = "mixed = com.microsoft.MultiHeadAttention <num_heads = 4> (q, q, v)"
STANDARD = "mixed = Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, v)"


def attention(text: str, *, values: int, outputs: str = "float[2, 3, 8] y") -> ir.Model:
    constants: Arrays = {
        "wq": normal(64, 64, seed=1, scale=0.2),
        "wk": normal(64, 32, seed=2, scale=0.2),
        "wv": normal(64, values, seed=3, scale=0.2),
        "wo": normal(64, 8, seed=4),
        "bias": normal(192, seed=5),
        "last": np.array([2, 2], np.int32),
        "total": np.array(3, np.int32),
    }
    used = {name: array for name, array in constants.items() if name.startswith("w") or name in text}
    return graph(
        f"""
        <ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>
        net (float[2, 3, 64] x) => ({outputs})
        {{
            q = MatMul (x, wq) k = MatMul (x, wk) v = MatMul (x, wv)
            {text}
            y = MatMul (mixed, wo)
        }}
        """,
        used,
    )


def outputs(model: ir.Model) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    session = open_model(model, session_options(threads=1, optimize=False))
    return [array.astype(np.float32) for array in session.run({"x": normal(2, 3, 64, seed=9)}).values()]


def value(model: ir.Model, name: str) -> ir.Value:
    return next(output for node in model.graph for output in node.outputs if output.name == name)


@pytest.mark.parametrize(
    ("text", "values"),
    [(GROUPED, 32), (MULTI_HEAD, 64), (STANDARD, 32)],
    ids=["grouped", "multi-head", "standard"],
)
def test_a_factor_goes_into_what_makes_the_values(text: str, values: int) -> None:
    model = attention(text, values=values)
    mixed = value(model, "mixed")
    ties = tied_channels(mixed, 64)
    factor = np.random.default_rng(0).uniform(0.5, 2, 64)
    if values == 32:
        assert ties is not None
        assert len(np.unique(ties)) == 32
        factor = factor[ties]
    else:
        assert ties is None
    before = outputs(model)
    reader = next(iter(mixed.uses()))
    fold = plan_fold(mixed, factor, [(reader.node, reader.idx)], copies=False)
    assert "MatMul" in fold.describe()
    apply_fold(fold)
    weight = model.graph.initializers["wo"].const_value
    assert weight is not None
    model.graph.initializers["wo"].const_value = ir.tensor(
        (weight.numpy() / factor[:, np.newaxis]).astype(np.float32), name="wo"
    )
    for old, new in zip(before, outputs(model), strict=True):
        # Every constant is rounded once more: some 1e-6 of the largest.
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-5 * float(np.abs(old).max()))


@pytest.mark.parametrize(
    ("text", "values", "shape", "reason"),
    [
        (GROUPED, 32, "float[2, 3, 8] y", "would need one factor"),
        (GROUPED, 32, "float[2, 3, 8] y, float[2, 2, 3, 16] v1", "cache"),
        (
            "mixed = com.microsoft.MultiHeadAttention <num_heads = 4> (q, q, v, bias)",
            64,
            "float[2, 3, 8] y",
            "bias",
        ),
    ],
    ids=["shared heads", "cache", "bias"],
)
def test_what_stands_in_the_way_is_said(text: str, values: int, shape: str, reason: str) -> None:
    model = attention(text, values=values, outputs=shape)
    mixed = value(model, "mixed")
    reader = next(iter(mixed.uses()))
    with pytest.raises(CannotFoldError, match=reason):
        plan_fold(mixed, np.arange(1.0, 65.0), [(reader.node, reader.idx)], copies=False)
