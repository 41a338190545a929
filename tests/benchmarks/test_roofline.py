"""What the machine could do is counted and built as it is said to be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.llama_graph import Shape, write
from benchmarks.llama_profile import profile
from benchmarks.low_bit_stacks import siblings, single
from benchmarks.roofline import bytes_of_a_step

K, N = 256, 64


@pytest.mark.parametrize(
    ("form", "size_bytes"),
    [
        ("float32", 4 * K * N),
        ("4 bits, block 32", K * N // 2 + 4 * N * K // 32),
        ("If, block 32", K * N // 2 + 4 * N * K // 32),  # the other side of it is not read by a step
        ("int8 columns, per token", K * N + 4 * N),
    ],
)
def test_a_step_reads_codes_and_scales_of_the_decoding_side(
    form: str, size_bytes: int, tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(single(form, K, N))
    assert bytes_of_a_step(path) == size_bytes


@pytest.mark.parametrize("few_rows", [True, False])
def test_joined_products_have_the_widths_of_those_apart(few_rows: bool) -> None:
    x = np.random.default_rng(0).standard_normal((1, 3, K)).astype(np.float32)
    shapes = []
    for joined in (False, True):
        model = siblings((64, 32), K, few_rows=few_rows, joined=joined)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        shapes.append([array.shape for array in session.run(None, {"x": x})])
    assert shapes == [[(1, 3, 64), (1, 3, 32)]] * 2


def test_a_profile_parts_the_product_of_the_logits_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = Shape(layers=1, hidden=32, inner=48, heads=2, kv_heads=1, vocabulary=50, context=16)
    monkeypatch.setattr("benchmarks.llama_profile.SHAPE", shape)
    found = profile(write(shape, tmp_path / "model.onnx"), tokens=4, past=3, runs=2, folder=tmp_path)
    assert {"MatMul", "MatMul of logits", "GroupQueryAttention"} <= set(found)
    assert all(ms >= 0 for ms in found.values())
