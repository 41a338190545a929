"""Language models on tvm-cpu: a cache that grows, generation, and refusal of lengths that do not add up."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from typer.testing import CliRunner

import qcompiler
from benchmarks.llama_graph import Shape, build
from qcompiler.errors import ModelError
from qcompiler.language.decoder import Decoder
from qcompiler.language.generation import generate
from qcompiler.language.sampling import Sampling
from tests.backends.tvm.compiled import Array
from tests.backends.tvm.kernels.running import needs_tvm
from tests.backends.tvm.test_loader import build_example

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


@pytest.mark.parametrize("cache", ["in place", "rebound"])
def test_generation_hands_the_cache_on(
    folders: dict[str, Path], cache: Literal["in place", "rebound"]
) -> None:
    decoder = Decoder(folders["tvm-cpu"])
    assert decoder.cache == "in place"
    decoder.cache = cache
    tokens = np.arange(12, dtype=np.int64)[None]
    whole = decoder.start(16).extend(tokens)
    text = decoder.start(16)
    text.extend(tokens[:, :9])
    for position in range(9, 12):
        last = text.extend(tokens[:, position : position + 1])
    # The same numbers in products of one row and of many.
    np.testing.assert_allclose(last, whole, rtol=0, atol=1e-4 * float(np.abs(whole).max()))


@pytest.mark.parametrize(("past", "tokens"), [(0, 5), (0, 1), (9, 1), (9, 4), (59, 1), (59, 5)])
def test_in_place_is_the_same_as_copied(folders: dict[str, Path], past: int, tokens: int) -> None:
    """Whatever lies behind the past: codes of other texts, or no numbers at all."""
    from qcompiler.backends.tvm.loader import Model

    model, generator = Model(folders["tvm-cpu"], threads=1), np.random.default_rng(past)
    cache = {
        name: generator.standard_normal((2, SHAPE.kv_heads, past, SHAPE.head_size)).astype(np.float32)
        for name in empty(2)
    }
    given = feed(generator.integers(0, SHAPE.vocabulary, (2, tokens)), cache)
    copied = model.run(given)
    buffers = {name: np.full((2, SHAPE.kv_heads, 64, SHAPE.head_size), np.nan, np.float32) for name in cache}
    for name, buffer in buffers.items():
        buffer[:, :, :past] = cache[name]
    tensors = [model.tensor(item, given | buffers) for item in model.inputs]
    (logits,) = model.call(tensors, in_place=True)
    np.testing.assert_array_equal(
        np.from_dlpack(logits), copied["logits"]
    )  # the same numbers in the same order
    for item, tensor in zip(model.inputs, tensors, strict=True):
        if item["name"] in buffers:
            present = copied[item["name"].replace("past_key_values", "present")]
            np.testing.assert_array_equal(np.from_dlpack(tensor)[:, :, : past + tokens], present)
            assert np.isnan(np.from_dlpack(tensor)[:, :, past + tokens :]).all()


def test_texts_are_generated_in_place(folders: dict[str, Path]) -> None:
    decoder = Decoder(folders["tvm-cpu"])
    found = []
    for cache in ("in place", "rebound"):
        decoder.cache = cache
        found.append(generate(decoder, [3, 1, 4, 1, 5], Sampling(temperature=0.0), max_tokens=20).tokens)
    assert found[0] == found[1]
    assert len(found[0]) == 20


def test_perplexity_is_the_dialects(folders: dict[str, Path], tmp_path: Path) -> None:
    from qcompiler.cli.app import app

    np.savez(tmp_path / "ids.npz", input_ids=np.random.default_rng(0).integers(0, SHAPE.vocabulary, (3, 24)))
    found = []
    for path in folders.values():
        arguments = ["eval", str(path.parent), "--ids", str(tmp_path / "ids.npz"), "--json"]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        found.append(json.loads(done.stdout)["scores"][0]["perplexity"])
    # Activations are rounded to int8 per group of 32 in one of them.
    assert found[0] == pytest.approx(found[1], rel=0.02)


def test_more_tokens_than_there_is_room_for_are_refused(folders: dict[str, Path]) -> None:
    from qcompiler.backends.tvm.loader import LoadError, Model

    model = Model(folders["tvm-cpu"], threads=1)
    given = feed(np.zeros((1, 3), np.int64), {name: array[:, :, :0] for name, array in empty(1).items()})
    small = {name: np.zeros((1, SHAPE.kv_heads, 2, SHAPE.head_size), np.float32) for name in empty(1)}
    with pytest.raises(LoadError, match="total is 3, expected 3 to 2: there is no more room"):
        model.call([model.tensor(item, given | small) for item in model.inputs], in_place=True)


PROGRAM = """
#include <cstdio>
#include "load_model.h"
using tvm::ffi::Tensor;

static std::vector<Tensor> Inputs(const qcompiler::Model& model, int64_t room) {
  std::vector<Tensor> made;
  for (size_t i = 0; i < model.inputs().size(); ++i) {
    const std::string name = model.inputs()[i];
    std::vector<int64_t> shape{1, HEADS, room, SIZE};
    if (name == "input_ids") shape = {1, 2};
    if (name == "attention_mask") shape = {1, 5};
    made.push_back(qcompiler::Model::Empty(shape, model.input_types()[i]));
    if (shape.size() == 2) {
      for (int64_t k = 0; k < shape[1]; ++k) static_cast<int64_t*>(made.back().data_ptr())[k] = 1;
      continue;
    }
    auto* values = static_cast<float*>(made.back().data_ptr());
    for (int64_t h = 0; h < HEADS; ++h) {
      for (int64_t k = 0; k < room * SIZE; ++k) {
        values[h * room * SIZE + k] = k < 3 * SIZE ? 0.01f * ((7 * h + k) % 31) : 1e9f;
      }
    }
  }
  return made;
}

int main(int argc, char** argv) try {
  qcompiler::Model model(argv[1]);
  auto copied = model.Run(Inputs(model, 3)), written = model.Run(Inputs(model, 8), true);
  auto* left = static_cast<const float*>(copied[0].data_ptr());
  auto* right = static_cast<const float*>(written[0].data_ptr());
  std::printf("%zu %zu %d\\n", copied.size(), written.size(), std::memcmp(left, right, 4 * copied[0].numel()));
  model.Run(Inputs(model, 4), true);
} catch (const std::exception& error) {
  return std::fprintf(stderr, "%s\\n", error.what()), 1;
}
"""


def test_cpp_runs_in_place(folders: dict[str, Path], tmp_path: Path) -> None:
    text = PROGRAM.replace("HEADS", str(SHAPE.kv_heads)).replace("SIZE", str(SHAPE.head_size))
    (tmp_path / "example.cc").write_text(text)
    shutil.copy(folders["tvm-cpu"].parent / "load_model.h", tmp_path)
    program = build_example(tmp_path, tmp_path / "example")
    done = subprocess.run([program, folders["tvm-cpu"]], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(1 + 2 * SHAPE.layers), "1", "0"], done.stderr
    assert done.returncode == 1
    assert done.stderr.strip() == "total finds no room"


def test_a_part_of_the_cache_cannot_be_in_place(folders: dict[str, Path]) -> None:
    from qcompiler.backends.tvm.session import TvmSession

    binding = TvmSession(folders["tvm-cpu"]).io_binding()
    for name, array in feed(np.zeros((1, 1), np.int64), empty(1)).items():
        binding.bind_cpu_input(name, array)
    binding.bind_output("logits", "cpu")
    with pytest.raises(ModelError, match="'logits' cannot be bound to memory"):
        binding.bind_ortvalue_output("logits", None)
    binding.bind_ortvalue_output("present.0.key", None)
    with pytest.raises(ModelError, match=r"'present\.0\.value' is not bound to memory"):
        binding.run()


def test_lengths_that_do_not_add_up_are_refused(folders: dict[str, Path]) -> None:
    from qcompiler.backends.tvm.session import TvmSession

    wrong = feed(np.zeros((1, 3), np.int64), empty(1))
    wrong["attention_mask"] = np.ones((1, 9), np.int64)
    with pytest.raises(ModelError, match=r"total is 9, expected (past \+ tokens|tokens \+ past) = 3"):
        TvmSession(folders["tvm-cpu"]).run(wrong)
