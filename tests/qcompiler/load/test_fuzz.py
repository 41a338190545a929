"""A damaged model ends in one of our errors or in a model, through preparation too; never in a traceback."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompiler.errors import QCompilerError
from qcompiler.load import load_model
from qcompiler.prepare import prepare

BUDGET_S = 12.0
CASES = 1500

TEXT = """
<ir_version: 8, opset_import: ["" : 12]>
agraph (float[N, 2, 4, 4] x, bool c) => (float[N, 2] y, float[N, 2, 4, 4] z)
<float[2, 2, 1, 1] w = {1.0, 2.0, 3.0, 4.0}, float[2] one = {1.0, 1.0}, float[2] zero = {0.0, 0.0}>
{
    conv = Conv(x, w)
    norm = BatchNormalization(conv, one, zero, zero, one)
    z = Identity(norm)
    pool = GlobalAveragePool(norm)
    axes = Constant <value_ints = [2, 3]> ()
    shape = Constant <value = int64[2] {-1, 2}> ()
    flat = Reshape(pool, shape)
    sum = ReduceSum <axes = [1], keepdims = 1> (flat)
    y = If (c) <
        then_branch = a () => (float[N, 2] p) { k = Constant <value = float[2] {3.0, 4.0}> () p = Add(flat, k) },
        else_branch = b () => (float[N, 2] q) { q = Softmax <axis = 1> (flat) }
    >
}
"""


def _damaged(content: bytes, rng: np.random.Generator) -> bytes:
    data = bytearray(content)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(data[: rng.integers(len(data))])
    if kind == 1:
        start = int(rng.integers(len(data)))
        del data[start : start + int(rng.integers(1, 16))]
        return bytes(data)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(len(data)))
        data[place] = int(rng.integers(256)) if kind == 2 else data[place] ^ (1 << int(rng.integers(8)))
    return bytes(data)


def test_bytes_flipped_and_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    content = onnx.parser.parse_model(TEXT).SerializeToString()
    path = tmp_path / "model.onnx"
    rng = np.random.default_rng(7)
    ended = {"refused": 0, "prepared": 0}
    messages: list[str] = []
    begin = time.monotonic()
    for _ in range(CASES):
        path.write_bytes(_damaged(content, rng))
        try:
            prepare(load_model(path))
            ended["prepared"] += 1
        except QCompilerError as error:
            ended["refused"] += 1
            messages.append(str(error))
        if time.monotonic() - begin > BUDGET_S:
            break
    assert all(message.isprintable() for message in messages)
    assert min(ended.values()) > 20, f"the fuzzer no longer reaches both ends: {ended}"
