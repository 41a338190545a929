"""What results show in notebooks: their figures, as text only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from qcompiler.diagnosis.run import DiagnoseOptions, diagnose
from qcompiler.driver import compile as compile_model
from qcompiler.models.catalog import DIGITS
from qcompiler.report.notebook import summary_html
from qcompiler.result import CompileResult


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> CompileResult:
    folder = tmp_path_factory.mktemp("<b>notebook")
    return compile_model(DIGITS.onnx, "int8_static", calibration=DIGITS.calibration, output=folder)


def tags(text: str) -> set[str]:
    return set(re.findall(r"<(\w+)", text))


def test_texts_are_escaped_and_empty_rows_left_out() -> None:
    text = summary_html("<script>x</script>", [("<i>", "<img src=x>"), ("nothing", "")], ["a < b"])
    assert tags(text) == {"div", "table", "caption", "b", "tbody", "tr", "th", "td", "ul", "li"}
    assert "nothing" not in text
    assert "a &lt; b" in text


def test_a_compile_shows_its_figures(result: CompileResult) -> None:
    text = result._repr_html_()
    assert f"{result.manifest.bits.achieved:.1f} a weight" in text
    assert "not measured" in text  # speed
    assert "cosine" in text
    assert "script" not in tags(text)
    assert "&lt;b&gt;notebook" in text


def test_a_diagnosis_shows_its_verdict(result: CompileResult) -> None:
    found = diagnose(
        DIGITS.onnx, result.path, DIGITS.calibration, options=DiagnoseOptions(samples=2, suspects=0)
    )
    text = found._repr_html_()
    assert found.verdict[0].split(":")[0] in text
    assert "script" not in tags(text)


def test_a_result_writes_its_report(result: CompileResult, tmp_path: Path) -> None:
    path = result.report(tmp_path / "report.html")
    text = path.read_text(encoding="utf-8")
    assert result.path.name in text
    assert "qcompile " in text
