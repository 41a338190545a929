"""The cache in int8: what changes in the graph, how exact it is, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.driver import compile as compile_model
from qcompiler.errors import UnsupportedError
from qcompiler.graph.cache_codes import read_scales
from qcompiler.passes.kv_int8 import KvInt8, Scope, scale_of
from qcompiler.request import CompileOptions

HEADS, KV_HEADS, SIZE = 4, 2, 8
TEXT = """
<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
main (float[batch, sequence, 32] x, int64[batch, total_sequence] attention_mask,
      float[batch, 2, past_sequence, 8] past_key, float[batch, 2, past_sequence, 8] past_value)
  => (float[batch, sequence, 32] y, float[batch, 2, total_sequence, 8] present_key,
      float[batch, 2, total_sequence, 8] present_value)
<int64[1] axis = {1}, int32 one = {1}>
{
   wide = ReduceSum <keepdims = 0> (attention_mask, axis)
   count = Cast <to = 6> (wide)
   last = Sub (count, one)
   shape = Shape <start = 1, end = 2> (attention_mask)
   length = Squeeze (shape)
   total = Cast <to = 6> (length)
   k, v = Split <axis = -1, num_outputs = 2> (x)
   y, present_key, present_value = com.microsoft.GroupQueryAttention <num_heads = 4, kv_num_heads = 2>
      (x, k, v, past_key, past_value, last, total)
}
"""


def attention() -> ir.Model:
    model = ir.from_onnx_text(TEXT)
    model.graph[-1].name = "attention"
    for value, name in zip(model.graph.inputs[2:], ("key", "value"), strict=True):
        value.name = f"past_key_values.0.{name}"
    for value, name in zip(model.graph.outputs[1:], ("key", "value"), strict=True):
        value.name = f"present.0.{name}"
    return model


def feed(batch: int, past: int, length: int, seed: int) -> dict[str, Any]:
    generator = np.random.default_rng(seed)
    cache = (batch, KV_HEADS, past, SIZE)
    return {
        "x": generator.normal(size=(batch, length, HEADS * SIZE)).astype(np.float32),
        "attention_mask": np.ones((batch, past + length), np.int64),
        "past_key_values.0.key": generator.normal(size=cache).astype(np.float32),
        "past_key_values.0.value": generator.normal(size=cache).astype(np.float32),
    }


def compiled(tmp_path: Path, passes: Any = "kv_int8") -> Any:
    feeds = [feed(1, 3, 6, seed) for seed in range(4)]
    options = CompileOptions(verify="numerics")
    return compile_model(attention(), passes, calibration=feeds, output=tmp_path, options=options)


@pytest.mark.parametrize("scope", list(Scope))
def test_the_graph_takes_and_gives_codes(tmp_path: Path, scope: Scope) -> None:
    result = compiled(tmp_path, [KvInt8(scales=scope)])
    session = onnxruntime.InferenceSession(str(result.path), providers=["CPUExecutionProvider"])
    kinds = {value.name: value.type for value in (*session.get_inputs(), *session.get_outputs())}
    assert {kinds[name] for name in kinds if "past" in name or "present" in name} == {"tensor(int8)"}
    assert kinds["x"] == kinds["y"] == "tensor(float)"
    assert [decision.action for report in result.passes for decision in report.nodes] == ["transformed"]
    scales = read_scales(ir.load(result.path).metadata_props)
    assert set(scales) == {name for name in kinds if "past" in name or "present" in name}
    assert scales["present.0.key"].shape == ((1,) if scope is Scope.TENSOR else (1, KV_HEADS, 1, SIZE))


def test_codes_are_those_of_the_scales(tmp_path: Path) -> None:
    """Against the float model: the new keys and values within half a step, the past as it was given."""
    result = compiled(tmp_path)
    scales = read_scales(ir.load(result.path).metadata_props)
    given = feed(1, 0, 6, 0)
    given.pop("past_key_values.0.key")
    given.pop("past_key_values.0.value")
    empty = {f"past_key_values.0.{part}": np.zeros((1, KV_HEADS, 0, SIZE)) for part in ("key", "value")}
    exact = open_model(attention(), session_options(threads=1)).run(
        given | {name: array.astype(np.float32) for name, array in empty.items()}
    )
    session = onnxruntime.InferenceSession(str(result.path), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]
    coded = dict(
        zip(names, session.run(None, given | {n: a.astype(np.int8) for n, a in empty.items()}), strict=True)
    )
    for part in ("present.0.key", "present.0.value"):
        scale = float(scales[part][0])
        inside = np.abs(exact[part]) <= 127 * scale
        error = np.abs(coded[part].astype(np.float32) * scale - exact[part])[inside]
        # rounding to the nearest code, and float32 rounding of the division
        assert error.max() <= scale / 2 * (1 + 1e-5)
    # an attention output is an average of values: each off by half a step, and weights that move a little with the keys
    assert np.abs(coded["y"] - exact["y"]).max() < 3 * float(scales["present.0.value"][0])


def test_scales_are_positive_and_reach_the_largest() -> None:
    np.testing.assert_allclose(scale_of(np.array([127.0, 2.54])), [1, 0.02], rtol=1e-6)  # float32
    assert scale_of(np.zeros(1))[0] > 0


def test_refused_without_group_query_attention(tmp_path: Path) -> None:
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 21]> main (float[n, 4] x) => (float[n, 4] y) { y = Relu (x) }"""
    )
    for node in model.graph:
        node.name = "relu"
    with pytest.raises(UnsupportedError, match="needs GroupQueryAttention"):
        compile_model(model, "kv_int8", calibration={"x": np.ones((2, 4), np.float32)}, output=tmp_path)


def test_excluded_and_repeated(tmp_path: Path) -> None:
    """A second run finds no float cache, and what is excluded stays as it is."""
    result = compiled(tmp_path, "kv_int8,kv_int8")
    assert [d.detail for d in result.passes[1].nodes] == ["its cache is INT8 already"]
    feeds = [feed(1, 3, 6, 0), feed(1, 3, 6, 1)]
    left = compile_model(
        attention(), "kv_int8", calibration=feeds, exclude=["attention"], output=tmp_path / "x",
    )  # fmt: skip
    assert [d.detail for d in left.passes[0].nodes] == ["excluded by the user"]
    assert left.model.graph.inputs[2].dtype == ir.DataType.FLOAT
