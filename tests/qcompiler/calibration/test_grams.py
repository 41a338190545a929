"""Gram matrices inside the calibration graph against the same ones in NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx.helper
import onnx.reference
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import ShapeInferencePass

from qcompiler.calibration import collect as collecting
from qcompiler.calibration.collect import collect
from qcompiler.calibration.grams import gram_groups
from qcompiler.calibration.probes import GramSum
from qcompiler.calibration.requests import ChannelMeanSquare, Gram, Range, Request, Window
from qcompiler.errors import UnsupportedError

MODEL = """
<ir_version: 10, opset_import: ["" : 21]>
tiny (float[N, T, 4] x) => (float[N, T, 4] y)
{
    doubled = Add(x, x)
    y = Relu(doubled)
}
"""
Array = npt.NDArray[np.float32]


@pytest.fixture
def model() -> ir.Model:
    model = ir.from_onnx_text(MODEL)
    ShapeInferencePass()(model)
    return model


@pytest.fixture
def feeds() -> list[dict[str, Array]]:
    """Batches of different sizes and lengths, one of them empty."""
    generator = np.random.default_rng(0)
    shapes = [(2, 3, 4), (1, 7, 4), (0, 3, 4), (5, 1, 4)]
    return [{"x": generator.normal(0.5, 2, shape).astype(np.float32)} for shape in shapes]


def rows_of(feeds: list[dict[str, Array]]) -> npt.NDArray[np.float64]:
    return np.concatenate([2.0 * feed["x"].reshape(-1, 4).astype(np.float64) for feed in feeds])


def test_gram_and_mean_square_equal_numpy(model: ir.Model, feeds: list[dict[str, Array]]) -> None:
    rows = rows_of(feeds)
    found = collect(model, [Gram("doubled"), ChannelMeanSquare("doubled"), Range("doubled")], feeds)
    gram, drift = found.gram(Gram("doubled"))
    assert drift is None
    assert gram.dtype == np.float32
    # float32 products and sums, in another order.
    np.testing.assert_allclose(gram, rows.T @ rows / len(rows), rtol=1e-5, atol=1e-5)
    square = np.asarray(found.array(ChannelMeanSquare("doubled")), np.float64)
    expected: npt.NDArray[np.float64] = np.mean(rows**2, axis=0)
    assert square == pytest.approx(expected, rel=1e-5)


def test_gram_does_not_depend_on_rank_or_batches(model: ir.Model, feeds: list[dict[str, Array]]) -> None:
    expected, _ = collect(model, [Gram("doubled")], feeds).gram(Gram("doubled"))
    (doubled,) = model.graph[0].outputs
    doubled.shape = None
    one = [{"x": feed["x"].reshape(1, -1, 4)} for feed in feeds]
    found, _ = collect(model, [Gram("doubled")], one).gram(Gram("doubled"))
    np.testing.assert_array_equal(found, expected)


def test_mean_square_of_a_vector() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]> one (float[3] x) => (float[3] y) { y = Neg(x) }'
    )
    found = collect(model, [ChannelMeanSquare("x")], [{"x": np.array([1, 2, 3], np.float32)}])
    np.testing.assert_array_equal(found.array(ChannelMeanSquare("x")), [1, 4, 9])


def test_drift_is_measured_against_the_twin(model: ir.Model, feeds: list[dict[str, Array]]) -> None:
    request = Gram("y", drift=True)
    gram, drift = collect(model, [request], feeds, twins={"y": "doubled"}).gram(request)
    x_float = rows_of(feeds)
    x = np.maximum(x_float, 0)
    assert drift is not None
    # float32 products and sums, in another order.
    np.testing.assert_allclose(gram, x.T @ x / len(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(drift, (x_float - x).T @ x / len(x), rtol=1e-5, atol=1e-5)


def test_drift_without_a_twin_is_refused(model: ir.Model, feeds: list[dict[str, Array]]) -> None:
    with pytest.raises(UnsupportedError, match="gptq instead of gptaq"):
        collect(model, [Gram("y", drift=True)], feeds)


def test_more_matrices_than_fit_take_more_runs(
    model: ir.Model, feeds: list[dict[str, Array]], monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [Gram("doubled"), Gram("y")]
    together = collect(model, requests, feeds)
    labels: list[str] = []
    monkeypatch.setattr(collecting, "gram_groups", lambda requests, values: gram_groups(requests, values, 64))
    apart = collect(model, requests, feeds, progress=lambda label, done, total: labels.append(label))
    assert set(labels) == {"observing", "gram matrices"}
    for request in requests:
        np.testing.assert_array_equal(apart.gram(request)[0], together.gram(request)[0])


def test_groups_keep_to_the_budget(model: ir.Model) -> None:
    values = {str(output.name): output for node in model.graph for output in node.outputs}
    requests = (Gram("doubled"), Gram("y"), Gram("y", drift=True))
    probes: dict[Request, GramSum] = {request: GramSum(request) for request in requests}
    sizes = [[probe.value for probe in group] for group in gram_groups(probes, values, 128)]
    assert sizes == [["doubled", "y"], ["y"]]


def test_gram_of_another_axis_is_what_a_convolution_of_one_pixel_multiplies() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]> net (float[N, 3, 4, 5] x) => (float[N, 3, 4, 5] y) { y = Relu (x) }'
    )
    ShapeInferencePass()(model)
    pictures = np.random.default_rng(0).normal(0, 1, (6, 3, 4, 5)).astype(np.float32)
    request = Gram("x", axis=1)
    gram, _ = collect(model, [request], [{"x": pictures[:2]}, {"x": pictures[2:]}]).gram(request)
    rows = np.moveaxis(pictures, 1, -1).reshape(-1, 3)
    # float32 products and sums, in another order.
    np.testing.assert_allclose(gram, rows.T @ rows / len(rows), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "window",
    [
        Window(3, (3, 3), (1, 1), (1, 1, 1, 1), (1, 1)),
        Window(3, (3, 2), (2, 1), (0, 1, 1, 0), (1, 2)),
        Window(3, (1, 1), (2, 2), (0, 0, 0, 0), (1, 1)),
    ],
)
def test_gram_of_windows_is_what_a_convolution_multiplies(window: Window) -> None:
    """Its quadratic form is the sum of squares that the convolution itself gives, for any kernel."""
    header = '<ir_version: 10, opset_import: ["" : 21]> net'
    model = ir.from_onnx_text(f"{header} (float[N, 3, 6, 7] x) => (float[N, 3, 6, 7] y) {{ y = Relu (x) }}")
    ShapeInferencePass()(model)
    pictures = np.random.default_rng(0).normal(0, 1, (6, 3, 6, 7)).astype(np.float32)
    request = Gram("x", axis=1, window=window)
    gram, _ = collect(model, [request], [{"x": pictures[:2]}, {"x": pictures[2:]}]).gram(request)
    kernel = np.random.default_rng(1).normal(0, 1, (4, 3, *window.kernel_shape)).astype(np.float32)
    strides, pads, dilations = list(window.strides), list(window.pads), list(window.dilations)
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], strides=strides, pads=pads, dilations=dilations)
    feeds = {"x": pictures, "w": kernel}
    (found,) = onnx.reference.ReferenceEvaluator(node).run(None, feeds)
    output = np.asarray(found, np.float32)
    rows = output.size // 4
    flat = kernel.reshape(4, -1).T
    # float32 products and sums, in another order.
    np.testing.assert_allclose(
        np.diag(flat.T @ gram @ flat), np.square(output).sum(axis=(0, 2, 3)) / rows, rtol=1e-4
    )
