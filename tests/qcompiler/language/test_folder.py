"""What a language-model folder says, and what is told when it says nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from qcompiler.errors import CalibrationError, ModelError
from qcompiler.language.folder import open_folder
from tests.qcompiler.language.tiny import CONTEXT, VOCABULARY, save_folder, save_tiny, save_tokenizer


def test_folder_and_the_model_in_it_are_the_same(tmp_path: Path) -> None:
    folder = save_folder(tmp_path / "out")
    found = open_folder(folder)
    assert found == open_folder(folder / "model.onnx")
    assert (found.model, found.tokenizer) == (folder / "model.onnx", folder)
    assert (found.end_of_text, found.context_length) == ((1,), CONTEXT)


def test_the_model_is_the_one_that_the_configuration_names(tmp_path: Path) -> None:
    folder = save_folder(tmp_path)
    save_tiny(folder / "another.onnx", "none")
    assert open_folder(folder).model == folder / "model.onnx"
    (folder / "model.onnx").unlink()
    with pytest.raises(ModelError, match=r"names model\.onnx, which is not there"):
        open_folder(folder)


def test_without_a_configuration_it_is_the_only_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"holds no \.onnx model"):
        open_folder(tmp_path)
    save_tiny(tmp_path / "a.onnx", "none")
    found = open_folder(tmp_path)
    assert (found.model.name, found.end_of_text, found.context_length) == ("a.onnx", (), None)
    save_tiny(tmp_path / "b.onnx", "none")
    with pytest.raises(ModelError, match=r"several models \(a\.onnx, b\.onnx\)"):
        open_folder(tmp_path)


@pytest.mark.parametrize(
    ("generation", "genai", "config", "expected"),
    [
        ({"eos_token_id": 5}, {"eos_token_id": 6}, {"eos_token_id": 7}, (5,)),
        ({}, {"eos_token_id": [6, 8]}, {"eos_token_id": 7}, (6, 8)),
        ({"eos_token_id": None}, {"eos_token_id": -1}, {"eos_token_id": 7}, (7,)),
        ({}, {}, {}, ()),
    ],
)
def test_end_of_text_comes_from_the_first_that_knows(
    tmp_path: Path,
    generation: dict[str, object],
    genai: dict[str, object],
    config: dict[str, object],
    expected: tuple[int, ...],
) -> None:
    save_tiny(tmp_path / "model.onnx", "none")
    (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    (tmp_path / "genai_config.json").write_text(json.dumps({"model": genai}))
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert open_folder(tmp_path).end_of_text == expected


def test_a_missing_path_and_a_broken_configuration(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        open_folder(tmp_path / "none")
    for content in ("{", "[1]"):
        (tmp_path / "config.json").write_text(content)
        save_tiny(tmp_path / "model.onnx", "none")
        with pytest.raises(ModelError, match=r"config\.json"):
            open_folder(tmp_path)


def test_tokenizer_is_missing_only_where_it_is_needed(tmp_path: Path) -> None:
    save_tiny(tmp_path / "model.onnx", "none")
    found = open_folder(tmp_path)
    assert found.tokenizer is None
    with pytest.raises(CalibrationError, match="a tokenizer is needed to read the prompt"):
        found.encoder(purpose="to read the prompt", vocabulary=None)


def test_tokenizer_with_more_tokens_than_the_model_is_refused(tmp_path: Path) -> None:
    elsewhere = save_tokenizer(tmp_path)
    found = open_folder(save_tiny(tmp_path / "model.onnx", "none"), tokenizer=elsewhere)
    size = found.encoder(purpose="", vocabulary=VOCABULARY).tokenizer.get_vocab_size()
    with pytest.raises(ModelError, match=f"has {size} tokens, but .* knows {size - 1}"):
        found.encoder(purpose="", vocabulary=size - 1)
