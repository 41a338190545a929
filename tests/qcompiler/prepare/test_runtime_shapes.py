"""Types and shapes of what the runtime's own operators make are those that the runtime gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from benchmarks.llama_graph import Shape, write
from qcompiler.data import Feed
from qcompiler.load import load_model
from qcompiler.prepare import prepare
from qcompiler.prepare.runtime_shapes import infer_runtime_operators
from qcompiler.verify.observed import OracleModel

TINY = Shape(layers=2, hidden=64, inner=176, heads=4, kv_heads=2, vocabulary=101, context=32)


def test_every_value_of_a_decoder_has_the_shape_that_it_has_when_it_runs(tmp_path: Path) -> None:
    model = load_model(write(TINY, tmp_path / "model.onnx"))
    report = prepare(model)
    assert not [note for note in report.notes if "rank" in note]
    past = np.zeros((1, TINY.kv_heads, 3, TINY.head_size), np.float32)
    caches = {f"past_key_values.{i}.{part}": past for i in range(TINY.layers) for part in ("key", "value")}
    feed: Feed = {"input_ids": np.arange(5)[None], "attention_mask": np.ones((1, 8), np.int64), **caches}
    oracle = OracleModel(model, threads=1)
    found = oracle.session(list(oracle.values)).run(feed)
    for name, value in oracle.values.items():
        assert value.shape is not None, name
        assert len(value.shape) == found[name].ndim, name
        for told, actual in zip(value.shape, found[name].shape, strict=True):
            assert not isinstance(told, int) or told == actual, name


@pytest.mark.parametrize(
    ("op_type", "inputs", "attributes", "expected"),
    [
        ("MatMulNBits", [["b", "t", 64], [32, 2, 16], [64]], {"K": 64, "N": 32}, ["b", "t", 32]),
        ("DynamicQuantizeMatMul", [["b", 64], [64, 32], [32]], {}, ["b", 32]),
        ("GroupQueryAttention", [[1, "t", 64]], {"num_heads": 4, "kv_num_heads": 2}, [1, "t", 32]),  # packed
        (
            "GroupQueryAttention",
            [[1, "t", 64], [1, "t", 32]],
            {"num_heads": 4, "kv_num_heads": 2},
            [1, "t", 64],
        ),
        (
            "GroupQueryAttention",
            [[1, "t", "w"]],
            {"num_heads": 4, "kv_num_heads": 2},
            None,
        ),  # packed, of any width
        ("MatMulNBits", [None, [32, 2, 16], [64]], {"K": 64, "N": 32}, None),
    ],
)
def test_one_operator(
    op_type: str,
    inputs: list[list[int | str] | None],
    attributes: dict[str, int],
    expected: list[int | str] | None,
) -> None:
    values = [
        ir.Value(
            name=f"x{i}",
            type=ir.TensorType(ir.DataType.FLOAT),
            shape=None if dims is None else ir.Shape(dims),
        )
        for i, dims in enumerate(inputs)
    ]
    node = ir.node(op_type, values, attributes, domain="com.microsoft")
    node.outputs[0].name = "y"
    model = ir.Model(ir.Graph(values, node.outputs, nodes=[node]), ir_version=10)
    assert infer_runtime_operators(model) == (1 if expected is None else 2)  # the type, and the shape
    shape = node.outputs[0].shape
    assert (None if shape is None else list(shape)) == (
        None if expected is None else list(ir.Shape(expected))
    )
    assert infer_runtime_operators(model) == 0  # nothing is left to say
