"""A language model with a cache on tvm-cuda: its definitions against the graph as written, step by step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import qcompiler
from benchmarks.llama_graph import Shape, build
from qcompiler.backends.tvm.session import TvmSession
from qcompiler.backends.tvm_cuda import nvrtc
from tests.backends.tvm.compiled import Array
from tests.backends.tvm.kernels.running import needs_tvm

needs_nvrtc = pytest.mark.skipif(nvrtc.find_library() is None, reason=f"needs {nvrtc.PACKAGE}")
pytestmark = [needs_tvm, needs_nvrtc, pytest.mark.tvm]

SHAPE = Shape(layers=1, hidden=64, inner=96, heads=4, kv_heads=2, vocabulary=128, context=64)
CACHE = [f"past_key_values.{i}.{part}" for i in range(SHAPE.layers) for part in ("key", "value")]


def test_prefill_and_decoding_are_the_dialects(tmp_path: Path) -> None:
    options = qcompiler.CompileOptions(verify="none")
    paths = [
        qcompiler.compile(
            build(SHAPE), "int4:group=32", target=target, output=tmp_path / target, options=options
        ).path
        for target in ("tvm-cuda", "onnx")
    ]
    exact = onnxruntime.SessionOptions()
    exact.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "0")  # float activations
    oracle, generator = onnxruntime.InferenceSession(paths[1], exact), np.random.default_rng(0)
    session = TvmSession(paths[0], on_host=True)
    past = {name: np.zeros((2, SHAPE.kv_heads, 0, SHAPE.head_size), np.float32) for name in CACHE}
    for count in (7, 1, 1):
        length = past[CACHE[0]].shape[2]
        feed: dict[str, Array] = {
            "input_ids": generator.integers(0, SHAPE.vocabulary, (2, count)),
            "attention_mask": np.ones((2, length + count), np.int64),
            **past,
        }
        expected = dict(
            zip([item.name for item in oracle.get_outputs()], oracle.run(None, feed), strict=True)
        )
        found = session.run(feed)
        for name, array in expected.items():
            # Float sums in another order.
            np.testing.assert_allclose(
                found[name], array, rtol=0, atol=1e-4 * np.abs(array).max(), err_msg=name
            )
        past = {name: expected[name.replace("past_key_values", "present")] for name in past}
