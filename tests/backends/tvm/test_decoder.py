"""Language models on tvm-cpu: a cache that grows, generation, and refusal of lengths that do not add up."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import qcompiler
from benchmarks.llama_graph import Shape, build
from qcompiler.errors import ModelError
from qcompiler.language.decoder import Decoder
from tests.backends.tvm.compiled import Array
from tests.backends.tvm.kernels.running import needs_tvm

pytestmark = [needs_tvm, pytest.mark.tvm]

SHAPE = Shape(layers=2, hidden=64, inner=96, heads=4, kv_heads=2, vocabulary=128, context=64)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same quantized graph for TVM and as the dialect says it."""
    found = {}
    for target in ("tvm-cpu:host_only=true", "onnx"):
        folder = tmp_path_factory.mktemp("decoder")
        options = qcompiler.CompileOptions(verify="none")
        result = qcompiler.compile(
            build(SHAPE), "int4:group=32", target=target, output=folder, options=options
        )
        found[target.partition(":")[0]] = result.path
    return found


def feed(tokens: Array, past: dict[str, Array]) -> dict[str, Array]:
    length = next(iter(past.values())).shape[2]
    mask = np.ones((len(tokens), length + tokens.shape[1]), np.int64)
    return {"input_ids": tokens, "attention_mask": mask, **past}


def empty(batch: int) -> dict[str, Array]:
    shape = (batch, SHAPE.kv_heads, 0, SHAPE.head_size)
    names = [f"past_key_values.{i}.{part}" for i in range(SHAPE.layers) for part in ("key", "value")]
    return {name: np.zeros(shape, np.float32) for name in names}


def sqnr_db(reference: Array, found: Array) -> float:
    noise = float(np.square(reference - found).sum())
    return 10 * math.log10(float(np.square(reference).sum()) / noise)


def test_prefill_and_decoding_are_the_dialects(folders: dict[str, Path]) -> None:
    from qcompiler.backends.onnxruntime.session import open_file, session_options
    from qcompiler.backends.tvm.session import TvmSession

    sessions = TvmSession(folders["tvm-cpu"]), open_file(folders["onnx"], session_options(threads=1))
    generator = np.random.default_rng(0)
    pasts = [empty(1), empty(1)]
    for count in (7, 1, 1):
        tokens = generator.integers(0, SHAPE.vocabulary, (1, count))
        outputs = [session.run(feed(tokens, past)) for session, past in zip(sessions, pasts, strict=True)]
        for name, expected in outputs[1].items():
            # Activations are rounded to int8 per group of 32; the error of two layers adds up.
            assert sqnr_db(np.asarray(expected), np.asarray(outputs[0][name])) > 30, name
        pasts = [
            {name: found[name.replace("past_key_values", "present")] for name in past}
            for past, found in zip(pasts, outputs, strict=True)
        ]


def test_generation_hands_the_cache_on(folders: dict[str, Path]) -> None:
    decoder = Decoder(folders["tvm-cpu"])
    assert decoder.cache == "rebound"
    tokens = np.arange(12, dtype=np.int64)[None]
    whole = decoder.start(16).extend(tokens)
    text = decoder.start(16)
    text.extend(tokens[:, :9])
    for position in range(9, 12):
        last = text.extend(tokens[:, position : position + 1])
    # The same numbers in products of one row and of many.
    np.testing.assert_allclose(last, whole, rtol=0, atol=1e-4 * float(np.abs(whole).max()))


def test_lengths_that_do_not_add_up_are_refused(folders: dict[str, Path]) -> None:
    from qcompiler.backends.tvm.session import TvmSession

    wrong = feed(np.zeros((1, 3), np.int64), empty(1))
    wrong["attention_mask"] = np.ones((1, 9), np.int64)
    with pytest.raises(ModelError, match=r"total is 9, expected (past \+ tokens|tokens \+ past) = 3"):
        TvmSession(folders["tvm-cpu"]).run(wrong)
