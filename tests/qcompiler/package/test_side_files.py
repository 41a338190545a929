"""A compiled language model stands in a language-model folder."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

import qcompiler
from qcompiler.errors import ModelError, OptionError
from qcompiler.language.folder import open_folder
from tests.qcompiler.language.tiny import save_folder, save_tiny

NOTHING = qcompiler.CompileOptions(verify="none")


def compiled(source: Path, output: Path | None) -> qcompiler.CompileResult:
    return qcompiler.compile(source, "int8_dynamic", output=output, options=NOTHING)


def test_the_result_s_folder_is_a_language_model_folder(tmp_path: Path) -> None:
    source = save_folder(tmp_path / "float")
    (source / "model.safetensors").write_bytes(b"weights")
    result = compiled(source / "model.onnx", tmp_path / "q")
    found, before = open_folder(tmp_path / "q"), open_folder(source)
    assert found.model == result.path == tmp_path / "q" / "model.qc.onnx"
    assert (found.end_of_text, found.context_length) == (before.end_of_text, before.context_length)
    assert found.tokenizer == tmp_path / "q"
    names = {path.name for path in (tmp_path / "q").iterdir()}
    configurations = {"config.json", "generation_config.json", "genai_config.json", "tokenizer.json"}
    assert names == {"model.qc.onnx", "model.qc.manifest.json", *configurations}
    assert (tmp_path / "q" / "tokenizer.json").read_bytes() == (source / "tokenizer.json").read_bytes()


def test_the_configuration_differs_in_the_file_name_only(tmp_path: Path) -> None:
    source = save_folder(tmp_path / "float")
    compiled(source / "model.onnx", tmp_path / "q" / "small.onnx")
    before, after = (
        json.loads((place / "genai_config.json").read_text()) for place in (source, tmp_path / "q")
    )
    assert after["model"]["decoder"].pop("filename") == "small.onnx"
    assert before["model"]["decoder"].pop("filename") == "model.onnx"
    assert before == after


def test_beside_the_model_nothing_changes(tmp_path: Path) -> None:
    source = save_folder(tmp_path)
    before = (source / "genai_config.json").read_text()
    result = compiled(source / "model.onnx", None)
    assert result.path == source / "model.qc.onnx"
    assert (source / "genai_config.json").read_text() == before


def test_other_models_get_no_side_files(tmp_path: Path) -> None:
    (tmp_path / "float").mkdir()
    source = save_tiny(tmp_path / "float" / "model.onnx", "none")
    (tmp_path / "float" / "config.json").write_text("{}")
    compiled(source, tmp_path / "q")
    assert not (tmp_path / "q" / "config.json").exists()
    result = qcompiler.compile(onnx.load(source), "int8_dynamic", output=tmp_path / "m", options=NOTHING)
    assert {path.name for path in (tmp_path / "m").iterdir()} == {result.path.name, result.manifest_path.name}


def test_saving_elsewhere_takes_them_along(tmp_path: Path) -> None:
    source = save_folder(tmp_path / "float")
    compiled(source / "model.onnx", tmp_path / "q").save(tmp_path / "copy")
    found = open_folder(tmp_path / "copy")
    assert (found.model.name, found.tokenizer) == ("model.qc.onnx", tmp_path / "copy")


@pytest.mark.parametrize("content", ["{", "[]", '{"model": 3}'])
def test_a_broken_configuration_is_told_before_any_work(tmp_path: Path, content: str) -> None:
    source = save_folder(tmp_path / "float")
    (source / "genai_config.json").write_text(content)
    with pytest.raises(ModelError, match="genai_config"):
        compiled(source / "model.onnx", tmp_path / "q")
    assert not (tmp_path / "q").exists()


def test_a_refused_compile_leaves_nothing(tmp_path: Path) -> None:
    source = save_folder(tmp_path / "float")
    with pytest.raises(OptionError):
        qcompiler.compile(source / "model.onnx", "int8_dynamic", exclude="nothing*", output=tmp_path / "q")
    assert not (tmp_path / "q").exists()
