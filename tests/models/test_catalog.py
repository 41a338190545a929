"""The committed models reach their recorded figures, and their data fits them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.models.catalog import DIGITS, MODELS, PYDOC_LM, TrainedModel, accuracy, perplexity


@pytest.fixture(params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> TrainedModel:
    return MODELS[request.param]


def test_the_recorded_figure_is_measured_again(model: TrainedModel) -> None:
    # another instruction set rounds float32 sums otherwise: one picture of 360, or the third digit of a perplexity
    assert model.evaluate(model.onnx) == pytest.approx(model.float_metric, rel=3e-3)


def test_the_figures_are_good() -> None:
    assert DIGITS.float_metric >= 0.97
    assert PYDOC_LM.float_metric <= 3.4


def test_every_archive_holds_exactly_the_inputs(model: TrainedModel) -> None:
    inputs = {value.name: value for value in ir.load(model.onnx).graph.inputs}
    for feeds in (model.calibration_feeds(), model.heldout_feeds()):
        assert feeds.keys() == inputs.keys()
        for name, array in feeds.items():
            value = inputs[name]
            assert value.dtype is not None
            assert value.dtype.numpy() == array.dtype
            assert value.shape is not None
            assert value.shape.rank() == array.ndim
            assert value.shape[0] == ir.SymbolicDim("batch")


def test_calibration_and_heldout_share_no_sample(model: TrainedModel) -> None:
    for name, calibration in model.calibration_feeds().items():
        seen = {sample.tobytes() for sample in calibration}
        assert not seen & {sample.tobytes() for sample in model.heldout_feeds()[name]}


def test_all_files_stay_under_three_megabytes() -> None:
    folders = {model.onnx.parent for model in MODELS.values()}
    assert sum(path.stat().st_size for folder in folders for path in folder.iterdir() if path.is_file()) < 3e6


def test_only_standard_operators(model: TrainedModel) -> None:
    graph = ir.load(model.onnx).graph
    assert {node.domain for node in graph.all_nodes()} <= {"", "ai.onnx"}
    assert len({node.name for node in graph.all_nodes()}) == len(list(graph.all_nodes()))


def test_digits_keeps_what_prepare_must_fold() -> None:
    kinds = [node.op_type for node in ir.load(DIGITS.onnx).graph]
    assert kinds.count("BatchNormalization") == 5
    assert {"Conv", "Add", "Relu", "MaxPool", "AveragePool", "Gemm"} <= set(kinds)


def test_pydoc_lm_nodes_are_named_after_their_modules() -> None:
    names = {node.name for node in ir.load(PYDOC_LM.onnx).graph}
    assert {
        "/lm_head/MatMul",
        "/model/layers.0/self_attn/k_proj/MatMul",
        "/model/embed_tokens/Gather",
    } <= names


def test_metadata_describes_the_file(model: TrainedModel) -> None:
    record = json.loads(model.metadata.read_text())
    assert record["size_bytes"] == model.onnx.stat().st_size
    assert record["license"] == "Apache-2.0"


def test_a_session_is_evaluated_like_its_file(model: TrainedModel) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(str(model.onnx), providers=["CPUExecutionProvider"])
    assert model.evaluate(session) == pytest.approx(
        model.evaluate(model.onnx), rel=1e-6
    )  # threads reorder sums


def test_accuracy_counts_largest_logits() -> None:
    logits = np.array([[0.0, 1.0], [2.0, 1.0], [0.0, 3.0]])
    assert accuracy(logits, np.array([1, 0, 0])) == pytest.approx(2 / 3)


def test_perplexity_of_uniform_logits_is_the_vocabulary() -> None:
    tokens = np.random.default_rng(0).integers(0, 7, size=(3, 11))
    logits = np.full((3, 11, 7), 1e4, np.float32)
    assert perplexity(logits, tokens) == pytest.approx(7)


def test_perplexity_of_a_certain_prediction_is_one() -> None:
    tokens = np.random.default_rng(1).integers(0, 7, size=(2, 9))
    logits = np.zeros((2, 9, 7), np.float32)
    np.put_along_axis(logits[:, :-1], tokens[:, 1:, None], 100.0, axis=-1)
    assert perplexity(logits, tokens) == pytest.approx(1)


def test_the_catalog_loads_no_heavy_package() -> None:
    code = (
        "import sys, qcompiler.models.catalog\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'sklearn'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
