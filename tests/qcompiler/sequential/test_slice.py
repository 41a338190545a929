"""Slices compute what the whole model computes, from what is known, and copy no weight."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.errors import CalibrationError
from qcompiler.sequential.boundary import FeedsBehind, read_boundary, write_boundary
from qcompiler.sequential.slice import FLOAT_TWIN, beside, slice_model
from tests.qcompiler.sequential.networks import Array, feeds, residual_model


def run(model: ir.Model, feed: Mapping[str, Array]) -> dict[str, Array]:
    session = open_model(model, session_options(threads=1, optimize=False))
    return session.run({name: feed[name] for name in session.input_names})


def test_a_chain_of_slices_is_the_model() -> None:
    model, feed = residual_model(), feeds()[0]
    known = run(slice_model(model, (), ["h_1"]), feed)
    known = run(slice_model(model, ["h_1"], ["h_3"]), {**feed, **known})
    found = run(slice_model(model, ["h_3"], ["logits"]), known)
    # The same nodes in the same order, unfused: the same bits.
    np.testing.assert_array_equal(found["logits"], run(model, feed)["logits"])


def test_a_slice_has_only_the_inputs_and_weights_that_it_needs() -> None:
    model = residual_model()
    sliced = slice_model(model, ["h_1", "h_2"], ["h_3"])
    assert [value.name for value in sliced.graph.inputs] == ["h_2", "tokens_mask"]
    assert set(sliced.graph.initializers) == {"gain_2", "wq_2", "wk_2", "wo_2"}
    for name, value in sliced.graph.initializers.items():
        assert value.const_value is model.graph.initializers[name].const_value


def test_mapped_weights_stay_mapped(tmp_path: Path) -> None:
    ir.save(residual_model(), tmp_path / "m.onnx", external_data="m.data", size_threshold_bytes=8)
    model = ir.load(tmp_path / "m.onnx")
    sliced = slice_model(model, ["h_2"], ["h_3"])
    both = beside(slice_model(model, ["h_2"], ["h_3"]), slice_model(model, ["h_2"], ["h_3"]), ["h_2"])
    for graph in (sliced.graph, both.graph):
        kinds = {type(value.const_value) for name, value in graph.initializers.items() if "w" in name}
        assert kinds == {ir.ExternalTensor}
    names = {value.const_value.name for value in model.graph.initializers.values() if value.const_value}
    assert not any(str(name).startswith(FLOAT_TWIN) for name in names)


def test_what_is_known_may_be_wanted() -> None:
    model = residual_model()
    sliced = slice_model(model, ["h_1"], ["h_1", "norm_1"])
    given = {"h_1": np.ones((1, 2, 8), np.float32)}
    np.testing.assert_array_equal(run(sliced, given)["h_1"], given["h_1"])


def test_a_value_that_does_not_exist_is_refused() -> None:
    with pytest.raises(CalibrationError, match="'nothing'"):
        slice_model(residual_model(), (), ["nothing"])


def test_models_beside_each_other_compute_what_each_computes() -> None:
    model, twin, feed = residual_model(), residual_model(), feeds()[1]
    twin.graph.initializers["wo_1"].const_value = ir.tensor(np.eye(8, dtype=np.float32), name="wo_1")
    h, h_twin = (np.full((*feed["ids"].shape, 8), fill, np.float32) * np.arange(8) for fill in (1.0, 2.0))
    h, h_twin = h.astype(np.float32), h_twin.astype(np.float32)
    apart = [
        run(slice_model(each, ["h_1"], ["h_2"]), {**feed, "h_1": given})["h_2"]
        for each, given in ((model, h), (twin, h_twin))
    ]
    both = beside(slice_model(model, ["h_1"], ["h_2"]), slice_model(twin, ["h_1"], ["h_2"]), ["h_1"])
    assert sorted(str(value.name) for value in both.graph.inputs) == [
        f"{FLOAT_TWIN}h_1",
        "h_1",
        "tokens_mask",
    ]
    found = run(both, {**feed, "h_1": h, f"{FLOAT_TWIN}h_1": h_twin})
    np.testing.assert_array_equal(found["h_2"], apart[0])
    np.testing.assert_array_equal(found[f"{FLOAT_TWIN}h_2"], apart[1])


def test_an_input_of_both_models_is_its_own_twin() -> None:
    model, feed = residual_model(), feeds()[1]
    both = beside(slice_model(model, (), ["h_1", "ids"]), slice_model(model, (), ["h_1", "ids"]), ())
    assert [value.name for value in both.graph.outputs] == ["h_1", "ids", f"{FLOAT_TWIN}h_1"]
    np.testing.assert_array_equal(run(both, feed)["ids"], feed["ids"])


def test_a_boundary_gives_back_what_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = [
        {"a": rng.normal(size=(2, n, 3)).astype(np.float16), "b": np.array(n), "empty": np.zeros((0, n))}
        for n in range(1, 4)
    ]
    write_boundary(tmp_path / "boundary", iter(arrays))
    found = read_boundary(tmp_path / "boundary")
    assert found is not None
    raw = [{"x": np.zeros(1)} for _ in arrays]
    for _ in range(2):
        for feed, expected in zip(FeedsBehind(raw, found), arrays, strict=True):
            assert set(feed) == {"x", *expected}
            for name, array in expected.items():
                assert feed[name].dtype == array.dtype
                np.testing.assert_array_equal(feed[name], array)
    found.remove()
    assert not list(tmp_path.iterdir())


def test_a_boundary_that_was_not_finished_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "boundary"
    assert read_boundary(path) is None
    write_boundary(path, [{"a": np.ones(100)}])
    path.write_bytes(path.read_bytes()[:-1])
    assert read_boundary(path) is None
