"""Every kind of data, from real files."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from PIL import Image
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers

from qcompiler.data import DataOptions, InputSpec, hold_out, input_specs, open_data
from qcompiler.data.feeds import Array
from qcompiler.errors import CalibrationError

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
X = (InputSpec("x", F32, ("N", 3)),)
PICTURE = (InputSpec("image", F32, ("N", 3, 8, 6)),)
IDS = (InputSpec("input_ids", I64, ("N", "S")), InputSpec("attention_mask", I64, ("N", "S")))
DATA = np.arange(30, dtype=np.float32).reshape(10, 3)
BATCH4 = DataOptions(batch=4)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    made = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


@pytest.mark.parametrize("kind", ["npz", "compressed", "fortran", "npy", "safetensors", "dict", "array"])
def test_arrays_arrive_unchanged_in_batches_whatever_holds_them(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"d.{ {'compressed': 'npz', 'fortran': 'npz'}.get(kind, kind) }"
    source: object = path
    if kind == "npz":
        np.savez(path, x=DATA)
    elif kind == "compressed":
        np.savez_compressed(path, x=DATA)
    elif kind == "fortran":
        np.savez(path, x=np.asfortranarray(DATA))
    elif kind == "npy":
        np.save(path, DATA)
    elif kind == "safetensors":
        save_file({"x": DATA}, path)
    else:
        source = {"x": DATA} if kind == "dict" else DATA
    feeds = open_data(source, X, BATCH4)
    for _ in range(2):
        arrays = [feed["x"] for feed in feeds]
        assert [len(array) for array in arrays] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate(arrays), DATA)
    assert feeds.samples == 10
    assert len(feeds.sha256 or "") == 64


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


def test_pictures_are_normalized_in_the_models_layout(tmp_path: Path) -> None:
    Image.new("RGB", (6, 8), (255, 0, 51)).save(tmp_path / "a.png")
    feed = next(iter(open_data(tmp_path, PICTURE, DataOptions(image_mean=(0.5,), image_std=(0.5,)))))
    assert feed["image"].shape == (1, 3, 8, 6)
    # two float32 roundings of values near 1
    np.testing.assert_allclose(feed["image"][0, :, 0, 0], [1, -1, -0.6], atol=1e-6)


def test_text_becomes_windows(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "t.txt").write_text("a b " * 10)
    feeds = open_data(tmp_path / "t.txt", IDS, DataOptions(batch=2, tokenizer=tokenizer, length=4))
    arrays = [feed["input_ids"] for feed in feeds]
    assert [array.shape for array in arrays] == [(2, 4), (2, 4), (1, 4)]
    assert arrays[0][0].tolist() == [0, 1, 0, 1]


def test_jsonl_texts_keep_their_lengths(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a b"}\n{"text": "b"}\n')
    feeds = list(open_data(tmp_path / "t.jsonl", IDS, DataOptions(tokenizer=tokenizer)))
    assert [feed["input_ids"].tolist() for feed in feeds] == [[[0, 1]], [[1]]]


def test_random_says_what_it_is_worth(caplog: pytest.LogCaptureFixture) -> None:
    feeds = open_data("random", IDS, DataOptions(batch=2, limit=3, length=5))
    assert [feed["attention_mask"].tolist() for feed in feeds] == [[[1] * 5] * 2] * 3
    assert "mean nothing" in feeds.description
    assert any(record.levelno == logging.WARNING for record in caplog.records)


def test_extra_arrays_are_listed_and_int_data_is_cast(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=DATA.astype(np.uint8), label=np.arange(7))
    feeds = open_data(tmp_path / "d.npz", X, DataOptions())
    assert "label" in feeds.description
    assert next(iter(feeds))["x"].dtype == np.float32


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("d.npz", b"junk", "cannot read"),
        ("d.npy", b"junk", "not a NumPy array"),
        ("d.safetensors", b"junk", "safetensors"),
        ("d.png", b"junk", "cannot decode"),
        ("d.jsonl", b'{"x": [[1,2,3]]}\n{oops\n', "line 2"),
        ("d.npz", b"", "empty"),
        ("d.xyz", b"junk", "no known kind"),
        ("d.txt", b"text", "--tokenizer"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CalibrationError, match=message):
        list(open_data(tmp_path / name, PICTURE if name == "d.png" else X, DataOptions()))


def test_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="does not exist"):
        open_data(tmp_path / "no.npz", X, DataOptions())


def test_split_is_disjoint_complete_and_says_when_shared() -> None:
    split = hold_out(open_data(DATA, X, BATCH4))
    kept, held = (np.concatenate([feed["x"] for feed in part]) for part in split)
    assert held[:, 0].tolist() == [12, 27]
    assert sorted([*kept[:, 0], *held[:, 0]]) == DATA[:, 0].tolist()
    assert not split.shared
    assert hold_out(open_data(DATA[:1], X, BATCH4)).shared


def test_fixed_batch_drops_the_remainder() -> None:
    feeds = open_data(DATA, (InputSpec("x", F32, (4, 3)),), DataOptions())
    assert [len(feed["x"]) for feed in feeds] == [4, 4]


def test_memory_is_that_of_a_batch(tmp_path: Path) -> None:
    row = 16_384
    np.savez(tmp_path / "d.npz", x=np.zeros((1024, row), np.float32))
    tracemalloc.start()
    for _ in open_data(tmp_path / "d.npz", (InputSpec("x", F32, ("N", row)),), DataOptions(batch=8)):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # a batch is 0.5 MiB; the reader, the fresh batch and the last one, and the 1 MiB checksum block: of 64 MiB
    assert peak < 8 * 8 * row * 4


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


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_flipped_byte_is_refused_or_harmless(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "d.npz"
    save(path, x=DATA)
    whole = path.read_bytes()
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x41
        path.write_bytes(damaged)
        with contextlib.suppress(CalibrationError):
            feeds = open_data(path, X, DataOptions())
            np.testing.assert_array_equal(np.concatenate([feed["x"] for feed in feeds]), DATA)


@pytest.mark.parametrize(
    ("module", "name"), [("PIL.Image", "d.png"), ("safetensors", "d.safetensors"), ("tokenizers", "d.txt")]
)
def test_a_missing_package_says_how_to_install_it(
    tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    (tmp_path / name).write_bytes(b"junk")
    monkeypatch.setitem(sys.modules, module, None)
    specs = PICTURE if name == "d.png" else IDS
    with pytest.raises(CalibrationError, match=r"pip install 'qcompiler\[data\]'"):
        open_data(tmp_path / name, specs, DataOptions(tokenizer=tokenizer))


def test_initializers_among_the_inputs_are_not_fed() -> None:
    text = (
        '<ir_version: 3, opset_import: ["":7]> g (float[N,3] x, float[3] w) => (float[N,3] y)'
        "<float[3] w = {1,2,3}> { y = Add(x, w) }"
    )
    assert input_specs(ir.from_onnx_text(text)) == X
