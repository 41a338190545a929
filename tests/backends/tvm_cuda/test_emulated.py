"""The very library, on a stand-in for the driver that runs the source of its kernels thread by thread.

Everything is real but the driver and its assembler: schedules, launches, barriers, shared memory, the runtime.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler.backends.tvm.session import TvmSession
from qcompiler.backends.tvm_cuda import compile_model, nvrtc
from tests.backends.tvm.compiled import Array, compiled, data
from tests.backends.tvm.kernels.running import needs_tvm
from tests.backends.tvm_cuda import emulation
from tests.backends.tvm_cuda.test_target import device_code

needs_nvrtc = pytest.mark.skipif(nvrtc.find_library() is None, reason=f"needs {nvrtc.PACKAGE}")
MODELS = Path(__file__).parents[3] / "models"
pytestmark = [needs_tvm, needs_nvrtc, pytest.mark.tvm]


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("no g++ here")
    folder = tmp_path_factory.mktemp("driver")
    emulation.build_driver(folder)
    return folder


@pytest.mark.parametrize("passes", ["int4", pytest.param("int8_dynamic", marks=pytest.mark.slow)])
def test_threads_compute_what_the_definitions_do(
    passes: str, driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_model, "ptx", emulation.recording(driver))
    result = compiled(tmp_path, passes, "tvm-cuda")
    check = TvmSession(result.path, on_host=True)
    feeds = [data(rows) for rows in (1, 5, 33)]  # a row, more than the kernel for few, more than a tile
    for feed, found in zip(feeds, emulation.run(result.path, feeds, driver), strict=True):
        expected = check.run(feed)["y"]
        # Sums of floats in another order.
        np.testing.assert_allclose(found["y"], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


FEEDS: dict[str, list[dict[str, Array]]] = {
    "digits": [
        {"image": np.random.default_rng(0).standard_normal((rows, 1, 8, 8), np.float32)} for rows in (1, 5)
    ],
    "pydoc_lm": [{"input_ids": np.random.default_rng(0).integers(0, 90, (2, 3))}],
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "passes"), [("digits", "int8_static"), ("pydoc_lm", "int4")])
def test_threads_of_whole_models_compute_what_the_definitions_do(
    name: str, passes: str, driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compile_model, "ptx", emulation.recording(driver))
    folder = MODELS / name
    calibration = next(folder.glob("*calib.npz"))
    result = qcompiler.compile(
        folder / f"{name}.onnx", passes, calibration=calibration, target="tvm-cuda", output=tmp_path
    )
    assert result.verification is not None
    # Static codes at ties of rounding may fall to the other side; everything else is the order of float sums.
    assert min(item.sqnr_db for item in result.verification.lowering.outputs) > 50
    assert all(item.kernel.startswith("Cuda") for item in result.kernels)
    assert device_code(tmp_path / f"{name}.qc.cuda.so").count(".visible .entry") > 10
    check = TvmSession(result.path, on_host=True)
    for feed, found in zip(FEEDS[name], emulation.run(result.path, FEEDS[name], driver), strict=True):
        expected = np.asarray(check.run(feed)["logits"], np.float32)
        # Sums of floats in another order, through three layers.
        np.testing.assert_allclose(found["logits"], expected, rtol=0, atol=1e-5 * np.abs(expected).max())
