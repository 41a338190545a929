"""A model run in segments gives what it gives as a whole, whatever is looked at, and holds one segment at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from benchmarks.llama_graph import Shape, write
from qcompiler.driver import compile as compile_model
from qcompiler.load import load_model
from qcompiler.prepare import prepare
from qcompiler.request import CompileOptions
from qcompiler.verify import segmented
from qcompiler.verify.observed import OracleModel
from qcompiler.verify.segmented import SegmentedSession, note_cuts, noted_cuts, slices, weight_bytes

TINY = Shape(layers=3, hidden=64, inner=176, heads=4, kv_heads=2, vocabulary=101, context=32)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(TINY, tmp_path_factory.mktemp("llama") / "model.onnx")


@pytest.fixture
def model(path: Path) -> ir.Model:
    loaded = load_model(path)
    prepare(loaded)
    return loaded


def feed() -> dict[str, np.ndarray]:
    tokens = np.random.default_rng(0).integers(TINY.vocabulary, size=(1, 5))
    past = np.random.default_rng(1).standard_normal((1, TINY.kv_heads, 3, TINY.head_size)).astype(np.float32)
    caches = {f"past_key_values.{i}.{part}": past for i in range(TINY.layers) for part in ("key", "value")}
    return {"input_ids": tokens, "attention_mask": np.ones((1, 8), np.int64), **caches}


def float_names(model: ir.Model) -> list[str]:
    return [
        str(output.name)
        for node in model.graph
        for output in node.outputs
        if output.name and output.dtype == ir.DataType.FLOAT
    ]


def test_every_value_is_the_same_as_of_the_whole(model: ir.Model) -> None:
    names = float_names(model)
    whole = OracleModel(model, threads=1).session(names).run(feed())
    assert note_cuts(model, large_bytes=0)
    assert len(noted_cuts(model)) >= 2 * TINY.layers
    session = OracleModel(model, threads=1).session(names)
    assert isinstance(session, SegmentedSession)
    assert OracleModel(model, threads=1).float_values(names, feed()) == set(names)
    parts = session.run(feed())
    assert list(parts) == names
    for name in names:
        assert np.array_equal(parts[name], whole[name]), name  # the same kernels on the same operands


@pytest.mark.parametrize("index", [0, 7, -1])
def test_one_value_alone(model: ir.Model, index: int) -> None:
    name = float_names(model)[index]
    whole = OracleModel(model, threads=1).session([name]).run(feed())[name]
    note_cuts(model, large_bytes=0)
    assert np.array_equal(OracleModel(model, threads=1).session([name]).run(feed())[name], whole)


def test_sizes_are_found_without_leaving_the_segments(model: ir.Model) -> None:
    names = float_names(model)
    expected = OracleModel(model, threads=1).element_counts(names, feed())
    note_cuts(model, large_bytes=0)
    assert OracleModel(model, threads=1).element_counts(names, feed()) == expected


def test_a_segment_holds_its_own_weights(model: ir.Model) -> None:
    total = weight_bytes(model)
    note_cuts(model, large_bytes=0)
    parts = slices(model, ["logits"], noted_cuts(model))
    assert sum(weight_bytes(part) for part in parts) < 1.5 * total  # masks and tables are repeated
    assert max(weight_bytes(part) for part in parts) < total / 3


def test_a_feed_is_run_once_whatever_is_read_of_it(model: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = 0
    run = SegmentedSession._run

    def counted(self: SegmentedSession, feeds: dict[str, np.ndarray], names: list[str]) -> None:
        nonlocal opened
        opened += 1
        run(self, feeds, names)

    monkeypatch.setattr(SegmentedSession, "_run", counted)
    note_cuts(model, large_bytes=0)
    oracle = OracleModel(model, threads=1)
    oracle.session(["logits"]).run(feed())
    oracle.session(float_names(model)).run(feed())
    oracle.element_counts(float_names(model), feed())
    assert opened == 1
    oracle.session(["logits"]).run(feed() | {"input_ids": np.zeros((1, 5), np.int64)})
    assert opened == 2


def test_a_small_model_is_run_as_a_whole(model: ir.Model) -> None:
    assert not note_cuts(model)
    assert not isinstance(OracleModel(model, threads=1).session(["logits"]), SegmentedSession)


def test_a_large_model_is_verified_in_segments(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0
    run = SegmentedSession.run

    def counted(self: SegmentedSession, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        nonlocal runs
        runs += 1
        return run(self, feeds)

    monkeypatch.setattr(SegmentedSession, "run", counted)
    options = CompileOptions(verify_data=feed())
    whole = compile_model(path, "int8_dynamic", output=tmp_path / "whole", options=options)
    assert runs == 0
    monkeypatch.setattr(segmented, "LARGE_BYTES", 0)
    parts = compile_model(path, "int8_dynamic", output=tmp_path / "parts", options=options)
    assert runs > 0
    assert whole.verification is not None
    assert parts.verification == whole.verification
