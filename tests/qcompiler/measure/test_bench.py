from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from qcompiler.errors import CalibrationError, ModelError, OptionError, UnsupportedError
from qcompiler.measure.bench import bench_models
from qcompiler.measure.memory import measure_memory
from qcompiler.measure.size import model_size_bytes

Feed = dict[str, npt.NDArray[np.generic]]

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")


def test_longer_model_is_slower(short_model: Path, long_model: Path, feed: Feed) -> None:
    report = bench_models([long_model, short_model], [feed, feed], rounds=9, with_memory=False)
    long, short = report.models
    assert long.ratio is None
    assert short.ratio is not None
    # Twelve times the work; the call itself costs as much as a few layers. 1.5 leaves room for a busy machine.
    assert short.ratio.median > 1.5
    assert short.load_ms is None
    assert report.memory_note == "not asked for"


def test_size_counts_external_data_once(short_model: Path, long_model: Path) -> None:
    assert model_size_bytes(short_model) == short_model.stat().st_size
    data = long_model.with_name("long.onnx.data").stat().st_size
    assert data >= 24 * 64 * 64 * 4
    assert model_size_bytes(long_model) == long_model.stat().st_size + data


@linux_only
def test_memory_of_a_model(long_model: Path, feed: Feed) -> None:
    figures = measure_memory(long_model, feed)
    assert 0 < figures.load_seconds < 60
    # 24 weights of 16 KiB must be somewhere; a session of this size stays below 100 MB on every machine seen.
    assert 24 * 64 * 64 * 4 / 2 < figures.resident_bytes < 100e6
    assert figures.loaded_bytes <= figures.peak_bytes + 1e6  # the kernel counts pages per thread, not exactly
    assert figures.baseline_bytes > 10e6


@linux_only
def test_memory_names_what_is_wrong(tmp_path: Path, short_model: Path, feed: Feed) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"not a protobuf")
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        measure_memory(broken, feed)
    with pytest.raises(UnsupportedError, match="Python objects"):
        measure_memory(short_model, {"x": np.array([None])})


def test_refuses_feeds_that_do_not_fit(short_model: Path, feed: Feed) -> None:
    with pytest.raises(CalibrationError, match="has the inputs"):
        bench_models([short_model], [{"y": feed["x"]}], with_memory=False)
    with pytest.raises(CalibrationError, match=r"x float32\[1, 3\]"):
        bench_models([short_model], [{"x": np.zeros((1, 3), np.float32)}], with_memory=False)
    with pytest.raises(CalibrationError, match="no data"):
        bench_models([short_model], [], with_memory=False)


def test_refuses_models_that_cannot_be_loaded(tmp_path: Path, feed: Feed) -> None:
    with pytest.raises(OptionError, match="at least one model"):
        bench_models([], [feed])
    with pytest.raises(ModelError, match=r"missing\.onnx"):
        bench_models([tmp_path / "missing.onnx"], [feed])
