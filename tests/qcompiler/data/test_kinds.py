"""An option that has no effect on the data is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.data import (
    DataOptions,
    open_data,
    open_each,
)
from qcompiler.data.kinds import ARRAYS
from qcompiler.data.options import FLAGS
from qcompiler.errors import OptionError
from tests.qcompiler.data.specs import BATCH4, DATA, IDS, X

TOKENIZER = "tokenizer.json"


@pytest.mark.parametrize(
    ("source", "options", "flags"),
    [
        ({"x": DATA}, DataOptions(tokenizer=TOKENIZER), "--tokenizer"),
        ({"x": DATA}, DataOptions(image_mean=(0.5,), length=8), "--image-mean, --sequence-length"),
        ({"x": DATA}, DataOptions(image_scale=1.0), "--image-scale"),
        ({"x": DATA}, DataOptions(image_order="BGR"), "--image-order"),
        ({"x": DATA}, DataOptions(text_column="t"), "--text-column"),
        ({"x": DATA}, DataOptions(seed=1), "--seed"),
        (DATA, DataOptions(columns={"x": "x"}), "--calib-column"),
        ([{"x": DATA}], DataOptions(batch=2), "--calib-batch"),
        (iter([{"x": DATA}]), DataOptions(text_column="t"), "--text-column"),
        ("random", DataOptions(columns={"x": "x"}), "--calib-column"),
    ],
)
def test_an_option_without_effect_is_refused(source: object, options: DataOptions, flags: str) -> None:
    with pytest.raises(OptionError, match=f"^{flags} cannot apply to ") as caught:
        open_data(source, X, options)
    assert "Leave it out" in str(caught.value)


def test_a_file_of_feeds_and_one_of_text_follow_different_options(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "t.txt").write_text("a b " * 9)
    (tmp_path / "t.jsonl").write_text('{"input_ids": [[1]], "attention_mask": [[1]]}\n')
    with pytest.raises(OptionError, match="--text-column cannot apply to windows of a text"):
        open_data(tmp_path / "t.txt", IDS, DataOptions(tokenizer=tokenizer, length=2, text_column="t"))
    with pytest.raises(OptionError, match="--tokenizer cannot apply to whole feeds"):
        open_data(tmp_path / "t.jsonl", IDS, DataOptions(tokenizer=tokenizer))


def test_an_opened_source_takes_no_options() -> None:
    opened = open_data(DATA, X, BATCH4)
    assert open_data(opened, X, DataOptions()) is opened
    with pytest.raises(OptionError, match="--calib-batch cannot apply to data that is open already"):
        open_data(opened, X, BATCH4)


def test_an_option_must_have_an_effect_on_one_of_several_sources() -> None:
    feeds = [{"x": DATA}]
    samples, whole = open_each([DATA, feeds], X, BATCH4)
    assert (next(iter(samples))["x"].shape, next(iter(whole))["x"].shape) == ((4, 3), (10, 3))
    with pytest.raises(OptionError, match="--seed cannot apply to one array or whole feeds"):
        open_each([DATA, feeds], X, DataOptions(seed=1))


def test_every_option_has_a_flag_and_defaults_are_never_refused() -> None:
    assert set(FLAGS) == set(DataOptions.__dataclass_fields__) - {"own_tokenizer"}  # nobody gives that one
    assert not ARRAYS.unread(DataOptions())
