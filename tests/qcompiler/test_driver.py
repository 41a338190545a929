"""The whole way of a compile, on the trained classifier of the repository."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import qcompiler
from qcompiler.errors import (
    CalibrationError,
    ModelError,
    OptionError,
    OutputError,
    QCompilerError,
    VerificationError,
)
from qcompiler.models.catalog import DIGITS

NUMERICS = qcompiler.CompileOptions(verify="numerics")
NOTHING = qcompiler.CompileOptions(verify="none")


def compiled_bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> qcompiler.CompileResult:
    folder = tmp_path_factory.mktemp("compiled")
    return qcompiler.compile(
        DIGITS.onnx, "int8_static", calibration=DIGITS.calibration, output=folder, options=NUMERICS
    )


def test_the_result_opens_in_a_plain_session_and_keeps_its_accuracy(result: qcompiler.CompileResult) -> None:
    session = onnxruntime.InferenceSession(result.path)
    assert [value.name for value in session.get_inputs()] == ["image"]
    # 360 held-out pictures: one point is four pictures.
    assert DIGITS.evaluate(result.path) >= DIGITS.float_metric - 0.01


def test_it_is_smaller_and_its_kernels_are_integer(result: qcompiler.CompileResult) -> None:
    assert result.path.stat().st_size < 0.4 * DIGITS.onnx.stat().st_size
    assert result.kernels
    assert all(kernel.integer for kernel in result.kernels)
    assert result.warnings == ()


def test_the_manifest_tells_what_was_done(result: qcompiler.CompileResult) -> None:
    manifest = json.loads(result.manifest_path.read_text())
    assert manifest["pipeline"][0]["name"] == "int8_static"
    assert manifest["pipeline"][0]["options"]["calibrator"] == "mse"
    assert manifest["calibration"]["sha256"]
    assert manifest["source"][0]["name"] == "digits.onnx"
    assert manifest["bits"]["requested"] == 8
    assert 8 < manifest["bits"]["achieved"] < 12
    kernels = {node["name"]: node["kernel"] for node in manifest["nodes"]}
    assert "QLinearConv" in kernels.values()


def test_two_runs_give_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        qcompiler.compile(
            DIGITS.onnx,
            "int8_static,bias_correction",
            calibration=DIGITS.calibration,
            output=tmp_path / folder,
            options=NUMERICS,
        )
    assert compiled_bytes(tmp_path / "a") == compiled_bytes(tmp_path / "b")


def test_models_in_memory_are_not_changed() -> None:
    proto = onnx.load(DIGITS.onnx)
    before = proto.SerializeToString()
    from_proto = qcompiler.compile(proto, "int8_dynamic", options=NOTHING)
    assert proto.SerializeToString() == before
    model = ir.load(DIGITS.onnx)
    nodes = len(model.graph)
    from_ir = qcompiler.compile(model, "int8_dynamic", options=NOTHING)
    assert len(model.graph) == nodes
    assert from_proto.path.read_bytes() == from_ir.path.read_bytes()


def test_excluded_nodes_stay_in_float(tmp_path: Path) -> None:
    result = qcompiler.compile(
        DIGITS.onnx,
        "int8_static",
        calibration=DIGITS.calibration,
        exclude=["op:Gemm"],
        output=tmp_path,
        options=NOTHING,
    )
    assert not any(kernel.kernel == "QGemm" for kernel in result.kernels)
    reasons = [item.detail for report in result.passes for item in report.nodes if item.op_type == "Gemm"]
    assert reasons == ["excluded by the user"]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"passes": "int8_statik"}, OptionError, "int8_static"),
        ({"passes": "int8_static:calibrater=mse"}, OptionError, "calibrator"),
        ({"passes": "int8_static:percentile=101"}, OptionError, "between 50"),
        ({"passes": ""}, OptionError, "no pass"),
        ({"passes": None}, OptionError, "recipe"),
        ({"passes": "int8_static", "target": "ort-gpu"}, OptionError, "ort-cpu"),
        ({"passes": "int8_dynamic", "target": "ort-cpu:isa=mmx"}, OptionError, "isa"),
        ({"passes": "int8_dynamic", "exclude": ["/nothing/*"]}, OptionError, "nothing"),
        ({"passes": "int8_static"}, CalibrationError, "int8_static"),
        ({"passes": "int8_static", "calibration": "missing.npz"}, CalibrationError, "missing.npz"),
        (
            {"passes": "int8_static", "calibration": {"img": np.zeros((4, 1, 8, 8), np.float32)}},
            CalibrationError,
            "image",
        ),
        (
            {"passes": "int8_static", "calibration": {"image": np.zeros((4, 8), np.float32)}},
            CalibrationError,
            "image",
        ),
    ],
)
def test_bad_requests_say_what_is_wrong_and_write_nothing(
    tmp_path: Path, arguments: dict[str, object], error: type[QCompilerError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        qcompiler.compile(DIGITS.onnx, output=tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("*.onnx"))


def test_a_broken_model_is_one_clear_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(DIGITS.onnx.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"broken\.onnx"):
        qcompiler.compile(broken, "int8_dynamic", options=NOTHING)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.onnx"]


def test_a_place_that_cannot_be_written_is_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="-o"):
        qcompiler.compile(DIGITS.onnx, "int8_dynamic", output=tmp_path / "file" / "out", options=NOTHING)


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("qcompiler.package.write.ir.save", full)
    with pytest.raises(OutputError, match="No space left"):
        qcompiler.compile(DIGITS.onnx, "int8_dynamic", output=tmp_path, options=NOTHING)
    assert list(tmp_path.iterdir()) == []


def test_strict_turns_warnings_into_failures(tmp_path: Path) -> None:
    options = qcompiler.CompileOptions(verify="none", strict=True)
    with pytest.raises(VerificationError, match="random"):
        qcompiler.compile(DIGITS.onnx, "int8_static", calibration="random", output=tmp_path, options=options)
    assert list(tmp_path.iterdir()) == []


def test_the_portable_target_uses_standard_operators_only(tmp_path: Path) -> None:
    result = qcompiler.compile(
        DIGITS.onnx,
        "int8_static",
        calibration=DIGITS.calibration,
        target="onnx",
        output=tmp_path,
        options=NUMERICS,
    )
    model = onnx.load(result.path)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    assert DIGITS.evaluate(result.path) >= DIGITS.float_metric - 0.01


def test_the_model_itself_is_never_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "mine.onnx"
    mine.write_bytes(DIGITS.onnx.read_bytes())
    with pytest.raises(OutputError, match="the model itself"):
        qcompiler.compile(mine, "int8_dynamic", output=mine, options=NOTHING)
    assert mine.read_bytes() == DIGITS.onnx.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.onnx"]


def test_a_folder_may_be_called_like_a_model(tmp_path: Path) -> None:
    folder = tmp_path / "out.onnx"
    folder.mkdir()
    result = qcompiler.compile(DIGITS.onnx, "int8_dynamic", output=folder, options=NOTHING)
    assert result.path == folder / "digits.qc.onnx"
