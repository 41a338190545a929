"""Data that does not fit the model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.data import (
    DataOptions,
    InputSpec,
    open_data,
)
from qcompiler.data.feeds import Array
from qcompiler.data.validation import listed
from qcompiler.errors import CalibrationError, OptionError
from tests.qcompiler.data.specs import BATCH4, DATA, I64, IDS, X


@pytest.mark.parametrize(
    ("arrays", "specs", "message"),
    [
        ({"xx": DATA}, X, "Did you mean 'xx'"),
        ({"x": DATA[0:0]}, X, "no samples"),
        ({"x": DATA[:, :2]}, X, "expected 3 instead of 2"),
        ({"x": DATA[:, 0]}, X, "rank 1"),
        ({"x": np.where(DATA == 0, np.nan, DATA)}, X, "sample 0"),
        ({"x": DATA}, (InputSpec("x", I64, ("N", 3)),), "float32, expected int64"),
        ({"x": np.array([{}] * 2, dtype=object)}, X, "pickled"),
        (
            {"input_ids": np.ones((2, 3), int), "attention_mask": np.ones((3, 3), int)},
            IDS,
            "differ in their number",
        ),
    ],
)
def test_data_that_does_not_fit_is_refused(
    tmp_path: Path, arrays: dict[str, Array], specs: tuple[InputSpec, ...], message: str
) -> None:
    np.savez(tmp_path / "d.npz", allow_pickle=True, **arrays)
    with pytest.raises(CalibrationError, match=message) as caught:
        open_data(tmp_path / "d.npz", specs, DataOptions())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("ids", "wrong"), [([[0, 7], [1, 8]], 8), ([[-8, 7], [-9, 0]], -9)])
def test_ids_that_the_model_has_no_row_for_are_refused(ids: list[list[int]], wrong: int) -> None:
    known = (InputSpec("input_ids", I64, ("N", "S"), ids=8),)
    with pytest.raises(
        CalibrationError, match=f"sample 1 of .*: .* the id {wrong}, but the model knows 8 ids"
    ):
        list(open_data({"input_ids": np.array(ids)}, known, BATCH4))


def test_the_caches_of_all_layers_are_one_name_in_a_message() -> None:
    names = [f"past_key_values.{layer}.{part}" for layer in range(3) for part in ("key", "value")]
    assert listed(["mask", *names]) == "mask, past_key_values.*.key, past_key_values.*.value"


def test_a_column_that_is_not_there_is_told_from_the_input_it_stands_for() -> None:
    with pytest.raises(
        CalibrationError, match="the model input 'x', under the name 'y': expected y; found x"
    ):
        open_data({"x": DATA}, X, DataOptions(columns={"x": "y"}))


def test_a_column_for_no_input_is_refused() -> None:
    with pytest.raises(OptionError, match="'y', not an input of the model"):
        open_data({"x": DATA}, X, DataOptions(columns={"y": "x"}))


def test_integers_that_float32_would_round_are_refused() -> None:
    with pytest.raises(CalibrationError, match=r"from 0 to 16777217, exact are -16777216 to 16777216"):
        open_data(np.array([[0, 1, 2**24 + 1]]), X, DataOptions())


def test_the_sample_with_an_infinity_is_named() -> None:
    bad = DATA.copy()
    bad[6, 1] = np.inf
    with pytest.raises(CalibrationError, match="sample 6 of an array: input 'x' holds inf"):
        list(open_data(bad, X, BATCH4))
