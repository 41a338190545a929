"""Statistics inside the calibration graph against the same ones in NumPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import ShapeInferencePass

from qcompiler.calibration.collect import collect
from qcompiler.calibration.histograms import SCOUTS
from qcompiler.calibration.requests import (
    Calibrator,
    ChannelAbsMax,
    ChannelMean,
    ChannelRange,
    Range,
    Request,
    Rows,
)
from qcompiler.errors import CalibrationError

MODEL = """
<ir_version: 10, opset_import: ["" : 21]>
tiny (float[N, T, 4] x) => (float[N, T, 4] y)
{
    doubled = Add(x, x)
    y = Relu(doubled)
}
"""
Feeds = list[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]


@pytest.fixture
def model() -> ir.Model:
    model = ir.from_onnx_text(MODEL)
    ShapeInferencePass()(model)
    return model


@pytest.fixture
def feeds() -> Feeds:
    """Batches of different sizes and lengths."""
    generator = np.random.default_rng(0)
    shapes = [(2, 3, 4), (1, 7, 4), (5, 1, 4), (3, 9, 4)]
    return [{"x": generator.normal(0.5, 2, shape).astype(np.float32)} for shape in shapes]


def everything(feeds: Feeds) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.concatenate([2 * feed["x"].reshape(-1, 4) for feed in feeds])


def test_range_and_channel_statistics_equal_numpy(model: ir.Model, feeds: Feeds) -> None:
    rows = everything(feeds)
    requests: list[Request] = [
        Range("doubled"),
        ChannelRange("doubled"),
        ChannelAbsMax("doubled"),
        ChannelMean("doubled"),
    ]
    found = collect(model, requests, feeds)
    assert found.range(Range("doubled")) == (rows.min(), rows.max())
    low, high = found.channel_range(ChannelRange("doubled"))
    np.testing.assert_array_equal(low, rows.min(axis=0))
    np.testing.assert_array_equal(high, rows.max(axis=0))
    np.testing.assert_array_equal(found.array(ChannelAbsMax("doubled")), np.abs(rows).max(axis=0))
    # float32 sums inside the graph, in another order.
    np.testing.assert_allclose(found.array(ChannelMean("doubled")), rows.mean(axis=0), rtol=1e-5)


def test_statistics_of_the_last_axis_need_no_known_rank(model: ir.Model, feeds: Feeds) -> None:
    (doubled,) = model.graph[0].outputs
    doubled.shape = None
    found = collect(model, [ChannelAbsMax("doubled"), ChannelMean("doubled")], feeds)
    rows = everything(feeds)
    np.testing.assert_array_equal(found.array(ChannelAbsMax("doubled")), np.abs(rows).max(axis=0))
    # float32 sums inside the graph, in another order.
    np.testing.assert_allclose(found.array(ChannelMean("doubled")), rows.mean(axis=0), rtol=1e-5)


def test_moving_average_is_the_mean_of_the_batches_extremes(model: ir.Model, feeds: Feeds) -> None:
    request = Range("doubled", Calibrator.MOVING_AVERAGE)
    low, high = collect(model, [request], feeds).range(request)
    assert low == pytest.approx(np.mean([2 * feed["x"].min() for feed in feeds]))
    assert high == pytest.approx(np.mean([2 * feed["x"].max() for feed in feeds]))


@pytest.mark.parametrize("calibrator", [Calibrator.PERCENTILE, Calibrator.ENTROPY, Calibrator.MSE])
def test_histogram_calibrators_do_not_depend_on_the_batches(model: ir.Model, calibrator: Calibrator) -> None:
    x = np.random.default_rng(0).normal(0, 1, (64, 5, 4)).astype(np.float32)
    request = Range("doubled", calibrator)
    whole = collect(model, [request], [{"x": x}]).range(request)
    parts = collect(model, [request], [{"x": x[i : i + 7]} for i in range(0, 64, 7)]).range(request)
    assert whole == parts


@pytest.mark.parametrize("calibrator", [Calibrator.PERCENTILE, Calibrator.MSE])
@pytest.mark.parametrize("growth", [1.0, 1.5, 100.0])
def test_what_comes_after_the_first_look_counts(
    model: ir.Model, calibrator: Calibrator, growth: float
) -> None:
    """Feeds behind the first look grow: inside the margin the bins hold them, beyond it they are counted again.

    Not for entropy: its divergence is too jagged for the range to be stable under other bins.
    """
    x = np.random.default_rng(0).normal(0, 1, (2 * SCOUTS, 50, 4)).astype(np.float32)
    x[SCOUTS:] *= growth
    request = Range("doubled", calibrator)
    whole = np.array(collect(model, [request], [{"x": x}]).range(request))
    parts = np.array(
        collect(model, [request], [{"x": x[i : i + 1]} for i in range(2 * SCOUTS)]).range(request)
    )
    # Other bins: each end moves by a few of 2048 at most; the searches look at shrinks of 2 %.
    np.testing.assert_allclose(parts, whole, atol=0.05 * float(np.ptp(x)))


def test_a_range_unknown_at_first_is_counted_later(model: ir.Model) -> None:
    request = Range("y", Calibrator.MSE)
    feeds = [{"x": np.zeros((1, 2, 4), np.float32)}] * SCOUTS + [{"x": np.ones((1, 2, 4), np.float32)}]
    assert collect(model, [request], feeds).range(request) == pytest.approx((0, 2), abs=2e-3)


def test_row_sample_holds_rows_of_the_data_and_no_more_than_asked(model: ir.Model, feeds: Feeds) -> None:
    request = Rows("doubled", 6)
    sample = collect(model, [request], feeds, batches=len(feeds)).array(request)
    assert sample.shape == (6, 4)
    seen = {row.tobytes() for row in everything(feeds)}
    assert all(row.astype(np.float32).tobytes() in seen for row in sample)


def test_row_sample_of_a_batch_as_long_as_the_sample_shows_more_than_its_first_tokens(
    model: ir.Model,
) -> None:
    x = np.broadcast_to(np.arange(32, dtype=np.float32)[None, :, None], (16, 32, 4))
    request = Rows("x", 16)
    positions = collect(model, [request], [{"x": x}], batches=1).array(request)[:, 0]
    # 16 rows on 32 positions: well spread is nearly all different, from both halves.
    assert len(set(positions)) >= 12
    assert positions.min() < 8
    assert positions.max() >= 24


def test_row_sample_is_everything_where_there_is_less_than_asked(model: ir.Model, feeds: Feeds) -> None:
    request = Rows("doubled", 1000)
    sample = collect(model, [request], feeds, batches=1).array(request)
    np.testing.assert_array_equal(sample, everything(feeds))


def test_a_mask_of_minus_infinity_like_values_keeps_its_extremes(model: ir.Model) -> None:
    x = np.zeros((1, 2, 4), np.float32)
    x[0, 0, 0] = -1.7e38
    request = Range("doubled", Calibrator.ENTROPY)
    low, high = collect(model, [request], [{"x": x}]).range(request)
    assert low == pytest.approx(-3.4e38)
    assert high == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_name_the_node_and_the_feed(model: ir.Model, feeds: Feeds, bad: float) -> None:
    feeds[2]["x"][4, 0, 1] = bad
    with pytest.raises(CalibrationError, match=r"Add.*feed 2"):
        collect(model, [Range("y"), Range("doubled")], feeds)


def test_the_model_is_not_changed(model: ir.Model, feeds: Feeds) -> None:
    before = ir.to_onnx_text(model)
    collect(model, [Range("doubled", Calibrator.MSE), Rows("y")], feeds)
    assert ir.to_onnx_text(model) == before


def test_no_feed_and_unknown_values_are_errors(model: ir.Model, feeds: Feeds) -> None:
    with pytest.raises(CalibrationError, match="no sample"):
        collect(model, [Range("y")], [])
    with pytest.raises(CalibrationError, match="'nowhere'"):
        collect(model, [Range("nowhere")], feeds)


class Counting:
    """Feeds that know how many of them are alive."""

    def __init__(self, count: int) -> None:
        self.count, self.passes = count, 0

    def __iter__(self) -> Iterator[dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]:
        self.passes += 1
        for index in range(self.count):
            yield {"x": np.full((1, 2, 4), index, np.float32)}


@pytest.mark.parametrize(("calibrator", "passes"), [(Calibrator.MINMAX, 1), (Calibrator.MSE, 2)])
def test_data_is_streamed_once_and_once_more_for_histograms(
    model: ir.Model, calibrator: Calibrator, passes: int
) -> None:
    feeds = Counting(5)
    collect(model, [Range("doubled", calibrator), Range("y", calibrator)], feeds)
    assert feeds.passes == passes


def test_a_feed_that_the_model_does_not_run_on_is_named() -> None:
    """Ids beyond the vocabulary have the right dtype and rank: only the runtime notices."""
    text = """
        <ir_version: 10, opset_import: ["" : 21]>
        embed (int64[N, T] ids) => (float[N, T, 2] y)
        <float[3, 2] table = {0, 1, 2, 3, 4, 5}>
        { y = Gather(table, ids) }
    """
    model = ir.from_onnx_text(text)
    ShapeInferencePass()(model)
    data = [{"ids": np.array([[0, 2]])}, {"ids": np.array([[0, 3]])}]
    with pytest.raises(CalibrationError, match=r"feed 1 \(ids int64\[1, 2\]\)"):
        collect(model, [Range("y")], data)
