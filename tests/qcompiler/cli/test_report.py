"""``qcompile MODEL --report`` and ``qcompile report``: the page, the terminal and the JSON document agree."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.qcompiler.cli.conftest import Qcompile


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_a_compile_writes_its_report(
    qcompile: Qcompile, digits: Path, digits_data: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    arguments = [digits, "--passes", "int8_static", "--calib", digits_data, "-o", tmp_path, "--report", page]
    ran = qcompile(*arguments, "--verify", "numerics", "--json")
    assert ran.code == 0
    found, text = ran.document, text_of(page)
    assert found["report"] == str(page)
    typed = shlex.join(["qcompile", *map(str, arguments), "--verify", "numerics", "--json"])
    assert f"<code>{typed}</code>" in text
    ratio = found["size_before_bytes"] / found["size_after_bytes"]
    deployed = [item for item in found["outputs"] if item["comparison"] == "deployed"]
    assert f"{ratio:.2f}× smaller" in text
    assert f"{deployed[0]['sqnr_db']:.1f} dB" in text
    for item in found["kernels"]:
        assert f"{item['nodes']} {item['kernel']}" in text


def test_the_terminal_says_where_the_report_is(qcompile: Qcompile, digits: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    ran = qcompile(
        digits, "--passes", "int8_dynamic", "-o", tmp_path, "--report", page, "--verify", "numerics"
    )
    assert ran.code == 0
    assert str(page) in ran.out.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("name", ["report.txt", "digits.onnx", ""])
def test_what_cannot_be_written_is_refused_before_anything_runs(
    qcompile: Qcompile, digits: Path, tmp_path: Path, name: str
) -> None:
    ran = qcompile(digits, "--passes", "int8_dynamic", "-o", tmp_path, "--report", tmp_path / name)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert "report" in ran.err
    assert not list(tmp_path.iterdir())


def test_a_compiled_model_is_reported_later(
    qcompile: Qcompile, digits: Path, digits_data: Path, tmp_path: Path
) -> None:
    folder, page = tmp_path / "out", tmp_path / "later.html"
    compiled = qcompile(digits, "--passes", "int8_dynamic", "-o", folder, "--verify", "numerics", "--json")
    ran = qcompile("report", digits, folder, "--data", digits_data, "-o", page, "--no-speed", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["size_after_bytes"] == compiled.document["size_after_bytes"]
    assert ran.document["achieved_bits"] == compiled.document["achieved_bits"]
    assert "not measured" in text_of(page)
    shown = qcompile("report", digits, folder, "--no-speed")
    assert shown.out == f"wrote {folder / 'digits.qc.report.html'}\n"


def test_a_missing_model_is_named(qcompile: Qcompile, digits: Path, tmp_path: Path) -> None:
    ran = qcompile("report", digits, tmp_path / "none.onnx", "-o", tmp_path / "report.html")
    assert ran.code == 2
    assert "none.onnx is no file" in ran.err


def test_what_is_no_model_ends_in_one_line(qcompile: Qcompile, digits: Path, tmp_path: Path) -> None:
    other = tmp_path / "data.npz"
    other.write_bytes(b"PK no protobuf")
    ran = qcompile("report", digits, other, "-o", tmp_path / "page.html")
    assert ran.code == 2
    assert "not an ONNX model" in ran.err
