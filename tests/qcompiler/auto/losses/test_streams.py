"""Noisy versions of a model that go through its segments together, against each run as a whole."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.auto.losses import streams
from qcompiler.auto.losses.streams import (
    Array,
    SegmentedFloat,
    Stream,
    float_session,
    segment_models,
    stream_losses,
)
from qcompiler.auto.losses.yardstick import Yardstick
from qcompiler.backends.run_feed import run_feed
from qcompiler.verify.observed import OracleModel
from tests.qcompiler.sequential.networks import feeds, residual_model

STREAMS = [{"wq_0": 0.5}, {"wo_2": 1.0}, {"head": 2.0}, {"table": 0.3, "wk_1": 1.0}, {}]


def noise(name: str) -> Array:
    shape = {"table": (11, 8), "head": (8, 5)}.get(name, (8, 8))
    return np.random.default_rng(sum(map(ord, name))).normal(size=shape).astype(np.float32) / 8


def as_a_whole(shares: dict[str, float], yardstick: Yardstick) -> float:
    model = residual_model()
    for name, share in shares.items():
        value = model.graph.initializers[name]
        assert value.const_value is not None
        value.const_value = ir.tensor(value.const_value.numpy() + np.float32(share) * noise(name), name=name)
    return yardstick.loss(OracleModel(model, threads=1).session(yardstick.outputs))


def test_losses_are_those_of_models_with_the_noise_in_them() -> None:
    model = residual_model()
    assert len(segment_models(model, ["logits"])) > 2
    yardstick = Yardstick.of(model, feeds(3), kind="kl")
    told: list[tuple[int, int]] = []
    found = stream_losses(
        model,
        [Stream(shares) for shares in STREAMS],
        noise,
        yardstick,
        threads=1,
        tell=lambda done, total: told.append((done, total)),
    )
    # the same kernels on the same numbers; sums of float32 may be in another order
    np.testing.assert_allclose(
        found, [as_a_whole(shares, yardstick) for shares in STREAMS], rtol=1e-4, atol=1e-9
    )
    assert found[-1] == 0.0
    assert told[0][0] == 0


def test_the_model_is_not_changed() -> None:
    model = residual_model()
    before = {name: value.const_value for name, value in model.graph.initializers.items()}
    yardstick = Yardstick.of(model, feeds(1), kind="kl")
    stream_losses(model, [Stream({"wq_1": 1.0})], noise, yardstick, threads=1, tell=lambda done, total: None)
    assert {name: value.const_value for name, value in model.graph.initializers.items()} == before
    assert [value.name for value in model.graph.inputs] == ["ids", "tokens_mask"]


def test_segments_give_what_the_whole_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    model = residual_model()
    outputs = [str(value.name) for value in model.graph.outputs]
    whole = float_session(model, outputs, threads=1)
    monkeypatch.setattr(streams, "LARGE_BYTES", 0)
    parted = float_session(model, outputs, threads=1)
    assert isinstance(parted, SegmentedFloat)
    for index, feed in enumerate(feeds(2)):
        one, other = run_feed(whole, feed, index), run_feed(parted, feed, index)
        assert list(one) == list(other) == outputs
        for name in outputs:
            a, b = (np.asarray(made[name], np.float64) for made in (one, other))
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)  # float32
