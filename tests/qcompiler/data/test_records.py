"""Data that comes record by record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from qcompiler.data import (
    DataOptions,
    open_data,
)
from tests.qcompiler.data.specs import BATCH4, DATA, IDS, X


def test_folder_jsonl_list_and_generator_keep_varying_shapes(tmp_path: Path) -> None:
    arrays = [np.full((1 + n, 3), n, np.float32) for n in range(3)]
    (tmp_path / "f").mkdir()
    for n, array in enumerate(arrays):
        np.savez(tmp_path / "f" / f"{n}.npz", x=array)
    (tmp_path / "d.jsonl").write_text("".join(json.dumps({"x": array.tolist()}) + "\n" for array in arrays))
    records = [{"x": array} for array in arrays]
    for source in (tmp_path / "f", tmp_path / "d.jsonl", records, iter(records)):
        feeds = open_data(source, X, DataOptions())
        for _ in range(2):
            assert [feed["x"].shape for feed in feeds] == [(1, 3), (2, 3), (3, 3)]


class Rows:
    """What a Hugging Face dataset looks like."""

    column_names = ("x", "label")

    def __len__(self) -> int:
        return len(DATA)

    def __getitem__(self, index: int) -> dict[str, object]:
        return {"x": DATA[index].tolist(), "label": index}


def test_dataset_rows_are_samples() -> None:
    feeds = open_data(Rows(), X, BATCH4)
    np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in feeds]), DATA)
    assert "label" in feeds.description


def test_a_text_column_is_read_by_its_name(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"sentence": "a b"}\n')
    options = DataOptions(tokenizer=tokenizer, text_column="sentence")
    assert [feed["input_ids"].tolist() for feed in open_data(tmp_path / "t.jsonl", IDS, options)] == [
        [[0, 1]]
    ]


def test_columns_are_renamed() -> None:
    feeds = open_data([{"pixels": DATA}], X, DataOptions(columns={"x": "pixels"}))
    np.testing.assert_array_equal(next(iter(feeds))["x"], DATA)
