"""Arrays whose first axis is samples: .npz, .npy, .safetensors, a dict, an array."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from qcompiler.data import (
    DataOptions,
    InputSpec,
    open_data,
)
from qcompiler.errors import CalibrationError
from tests.qcompiler.data.specs import BATCH4, DATA, F32, I64, IDS, X


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


def test_extra_arrays_are_listed_and_int_data_is_cast(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=DATA.astype(np.uint8), label=np.arange(7))
    feeds = open_data(tmp_path / "d.npz", X, DataOptions())
    assert "label" in feeds.description
    assert next(iter(feeds))["x"].dtype == np.float32


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


def test_a_scalar_is_given_whole_to_every_feed() -> None:
    specs = (*X, InputSpec("rate", I64, ()))
    feeds = list(open_data({"x": DATA, "rate": np.array(16_000)}, specs, BATCH4))
    assert [feed["rate"].tolist() for feed in feeds] == [16_000] * 3


def test_one_array_needs_a_model_with_one_input() -> None:
    with pytest.raises(CalibrationError, match="2 inputs"):
        open_data(DATA, IDS, DataOptions())
