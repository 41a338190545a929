"""``qcompile diagnose``: what is printed, in 80 columns and as JSON, and how wrong input ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.qcompiler.cli.conftest import Qcompile

SCALE = "pointwise.0.weight_folded_scale"


@pytest.fixture
def quantized(qcompile: Qcompile, digits: Path, digits_data: Path, tmp_path: Path) -> Path:
    """Digits in int8 with one weight scale three times too large."""
    out = tmp_path / "digits.qc.onnx"
    options = ("--passes", "int8_static:calibrator=minmax", "--calib", digits_data, "--verify", "none")
    ran = qcompile(digits, *options, "-o", out)
    assert ran.code == 0, ran.err
    model = onnx.load(out)
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == SCALE)
    wrong = onnx.numpy_helper.to_array(tensor) * np.float32(3)
    tensor.CopyFrom(onnx.numpy_helper.from_array(wrong, SCALE))
    onnx.save(model, out)
    return out


def test_diagnose(qcompile: Qcompile, digits: Path, digits_data: Path, quantized: Path) -> None:
    arguments = ("diagnose", digits, quantized, "--data", digits_data, "--samples", "4", "--worst", "3")
    ran = qcompile(*arguments)
    assert ran.code == 0, ran.err
    text = " ".join(ran.out.split())
    assert "/pointwise.0/Conv: its weight is wrong: its scale is 3 times what the weight needs" in text
    commands = [line for line in ran.out.splitlines() if line.startswith("  qcompile ")]
    assert any("--exclude /pointwise.0/Conv" in line for line in commands)
    # what the manifest beside the file says: the command changes that, not a guess
    assert all("int8_static:calibrator=minmax" in line for line in commands)
    wide = [
        line
        for line in ran.out.splitlines()
        if len(line.rstrip()) > 80 and str(digits) not in line and str(digits_data) not in line
    ]
    assert not wide
    found = qcompile(*arguments, "--json").document
    assert found["culprits"][0]["name"] == "/pointwise.0/Conv"
    assert found["samples"] == 4


def test_a_command_that_is_printed_runs_and_mends(
    qcompile: Qcompile, digits: Path, digits_data: Path, quantized: Path, tmp_path: Path
) -> None:
    import shlex

    arguments = ("diagnose", digits, quantized, "--data", digits_data, "--samples", "4", "--json")
    found = qcompile(*arguments).document
    words = shlex.split(found["remedies"][0]["command"])[1:]
    mended = tmp_path / "mended"
    ran = qcompile(*words, "--verify", "none", "-o", mended)
    assert ran.code == 0, ran.err
    again = qcompile("diagnose", digits, mended / "digits.qc.onnx", *arguments[3:]).document
    assert not [item for item in again["culprits"] if item["fault"]]
    assert again["outputs"][0]["sqnr_db"] > found["outputs"][0]["sqnr_db"] + 20.0  # 4 dB and 37 dB


def test_data_must_be_given(qcompile: Qcompile, digits: Path, quantized: Path) -> None:
    ran = qcompile("diagnose", digits, quantized)
    assert ran.code == 2
    assert "--data" in ran.err
    assert ran.err.count("\n") == 1


def test_a_float_model_twice_is_refused(qcompile: Qcompile, digits: Path, digits_data: Path) -> None:
    ran = qcompile("diagnose", digits, digits, "--data", digits_data)
    assert ran.code == 2
    assert "no quantized node" in ran.err


def test_a_missing_file_is_told(qcompile: Qcompile, digits: Path, digits_data: Path, tmp_path: Path) -> None:
    ran = qcompile("diagnose", digits, tmp_path / "none.onnx", "--data", digits_data)
    assert ran.code == 2
    assert "is no file" in ran.err
