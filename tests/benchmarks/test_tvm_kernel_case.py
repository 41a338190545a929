"""A kernel beside ONNX Runtime: one row a model, and the same values."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from benchmarks.tvm_kernel_case import MULTIPLIERS, WEIGHTS, measure_case
from benchmarks.tvm_kernel_layers import embedding, rms_norm
from benchmarks.tvm_kernel_products import int8_static

pytestmark = pytest.mark.tvm


def test_a_case_has_a_row_for_every_model_and_a_speed_for_every_shape() -> None:
    case = rms_norm()
    shape = next(iter(case.calls))
    case = dataclasses.replace(case, calls={shape: case.calls[shape]})
    row, *_ = measure_case(case, threads=1)
    assert row.name == "RMS norm of a sum, against the operator"
    assert list(row.speed) == [shape]
    assert row.scores.against_float["SQNR dB"] > 100  # float32 against float32


def test_the_table_of_embeddings_holds_the_same_codes_for_both() -> None:
    case = embedding()
    row, *_ = measure_case(dataclasses.replace(case, calls={"1 rows": case.calls["1 rows"]}), threads=1)
    assert row.scores.against_float["SQNR dB"] > 100  # exact but for the order of a product
    assert np.isfinite(row.speed["1 rows"].median)


def test_products_are_also_compared_with_the_multipliers_alone() -> None:
    case = int8_static()
    shape = "16 x 2048"
    _, alone, read = measure_case(dataclasses.replace(case, calls={shape: case.calls[shape]}), threads=1)
    assert alone.name == f"int8 static, against {MULTIPLIERS}"
    assert read.name == f"int8 static, against {WEIGHTS}"
    assert read.speed[shape].median > 0
    # never more than all of them; 1.1 because a busy machine slows the two sides differently
    assert 0 < alone.speed[shape].median < 1.1
