"""What statistics are taken from and what a result is verified on never overlap unless a warning says so."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.data import DataOptions, FeedSource
from qcompiler.errors import CalibrationError, OptionError
from qcompiler.request import CompileOptions
from qcompiler.samples import RANDOM_SAMPLES, open_samples

MODEL = """
<ir_version: 10, opset_import: ["" : 21]>
tiny (float[N, 2] x) => (float[N, 2] y) { y = Relu(x) }
"""
TEN = {"x": np.arange(20, dtype=np.float32).reshape(10, 2)}


@pytest.fixture
def model() -> ir.Model:
    return ir.from_onnx_text(MODEL)


def rows(source: FeedSource | None) -> set[float]:
    return {float(row[0]) for feed in source or () for row in feed["x"]}


def test_calibration_never_sees_what_verifies(model: ir.Model) -> None:
    samples = open_samples(model, TEN, CompileOptions())
    assert rows(samples.calibration) | rows(samples.held_out) == set(TEN["x"][:, 0])
    assert not rows(samples.calibration) & rows(samples.held_out)
    assert rows(samples.held_out)
    assert samples.warnings == ()


def test_options_of_data_that_is_not_given_are_refused(model: ir.Model) -> None:
    with pytest.raises(OptionError, match="--tokenizer cannot apply to random data, and no data is given"):
        open_samples(model, None, CompileOptions(data=DataOptions(tokenizer="lm/")))


def test_with_data_to_verify_on_all_else_calibrates(model: ir.Model) -> None:
    other = {"x": np.full((3, 2), 99, np.float32)}
    samples = open_samples(model, TEN, CompileOptions(verify_data=other))
    assert rows(samples.calibration) == set(TEN["x"][:, 0])
    assert rows(samples.held_out) == {99.0}


def test_data_to_verify_on_needs_no_calibration(model: ir.Model) -> None:
    samples = open_samples(model, None, CompileOptions(verify_data=TEN))
    assert samples.calibration is None
    assert rows(samples.held_out) == set(TEN["x"][:, 0])


def test_a_single_sample_serves_both_and_a_warning_says_so(model: ir.Model) -> None:
    samples = open_samples(model, {"x": TEN["x"][:1]}, CompileOptions())
    assert rows(samples.calibration) == rows(samples.held_out) == {0.0}
    assert any("on the calibration data itself" in warning for warning in samples.warnings)


def test_random_calibration_is_a_warning(model: ir.Model) -> None:
    assert any("random" in text for text in open_samples(model, "random", CompileOptions()).warnings)


@pytest.mark.parametrize(("limit", "count"), [(None, RANDOM_SAMPLES), (3, 3), (1000, RANDOM_SAMPLES)])
def test_without_data_a_few_random_feeds_verify(model: ir.Model, limit: int | None, count: int) -> None:
    samples = open_samples(model, None, CompileOptions(data=DataOptions(limit=limit)))
    assert samples.calibration is None
    assert samples.batches is None
    assert len(list(samples.held_out)) == count
    assert "random" in samples.held_out_note
    assert samples.warnings == ()


def test_data_that_does_not_fit_is_an_error(model: ir.Model) -> None:
    with pytest.raises(CalibrationError, match="'x'"):
        open_samples(model, {"z": TEN["x"]}, CompileOptions())
