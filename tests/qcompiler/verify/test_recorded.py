"""What was recorded comes back as it was, from memory or disk, and holds no files open."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qcompiler.tensors import spooling
from qcompiler.verify.recorded import KEPT_BYTES, Recording

FEED = {"x": np.arange(3)}
DESCRIPTORS = Path("/proc/self/fd")


def arrays(count: int) -> dict[str, np.ndarray]:
    large = np.arange(KEPT_BYTES, dtype=np.float32).reshape(2, -1)
    return {f"v{index}": large + np.float32(index) for index in range(count)} | {
        "small": np.array([True, False]),
        "text": np.array(["a", "bc"], object),
        "none": np.zeros((0, 4), np.float32),
    }


def test_arrays_come_back_by_feed_and_name(tmp_path: Path) -> None:
    recording, made = Recording(), arrays(2)
    with spooling(tmp_path):
        assert recording.missing(FEED, made) == list(made)
        recording.keep(FEED, made)
    assert recording.missing(FEED, [*made, "other"]) == ["other"]
    assert recording.missing({"x": np.arange(1, 4)}, ["v0"]) == ["v0"]
    found = recording.read(FEED, made)
    outlines = recording.outlines(FEED, made)
    for name, array in made.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == outlines[name].dtype == array.dtype
        assert outlines[name].shape == array.shape
    assert not any(outlines["v0"].strides)  # one element in memory


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="this system does not list open files")
def test_thousands_of_arrays_hold_no_files_open(tmp_path: Path) -> None:
    """The usual limit is 1,024 files, and a model of 40 layers has as many values."""
    recording, made = Recording(), arrays(20)
    with spooling(tmp_path):
        recording.keep(FEED, made)
    before = len(list(DESCRIPTORS.iterdir()))
    found = recording.read(FEED, made)
    assert len(found) == len(made)
    assert len(list(DESCRIPTORS.iterdir())) == before
