"""The exported folder in the real ``onnxruntime-genai``: the same greedy tokens as ours and Transformers'."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompiler.models.genai_config import UNLIMITED, genai_config, model_type
from tests.models.conftest import Exported

GENAI_MISSING = "onnxruntime-genai is not installed (pip install onnxruntime-genai)"


def test_search_settings_and_several_ends() -> None:
    config = {"model_type": "qwen2", "hidden_size": 64, "vocab_size": 9, "num_attention_heads": 4}
    generation = {"eos_token_id": [3, 4], "do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8}
    made: Any = genai_config(config, generation, filename="m.onnx", kv_heads=2, head_size=16, layers=3)
    assert made["model"]["eos_token_id"] == [3, 4]
    assert made["model"]["pad_token_id"] == 3
    assert made["model"]["context_length"] == made["search"]["max_length"] == UNLIMITED
    assert made["model"]["decoder"]["filename"] == "m.onnx"
    search = made["search"]
    assert (search["do_sample"], search["temperature"], search["top_k"], search["top_p"]) == (
        True,
        0.7,
        20,
        0.8,
    )


def test_architectures_that_genai_has_no_name_for_are_plain_decoders() -> None:
    assert model_type({"model_type": "llama"}) == "llama"
    assert model_type({"model_type": "gpt_neox"}) == model_type({"model_type": "opt"}) == "decoder"


@pytest.mark.export
@pytest.mark.parametrize("family", ["llama", "gpt_neox", "gemma3"])
def test_genai_generates_the_same_tokens(family: str, tmp_path: Path, exported: Exported) -> None:
    genai: Any = pytest.importorskip("onnxruntime_genai", reason=GENAI_MISSING)
    pytest.importorskip("transformers", reason="the extra export is not installed")
    from tests.models.decoders import Steps

    _, report = exported(family)
    shutil.copytree(report.model.parent, tmp_path / "out")
    (tmp_path / "out" / "tokenizer.json").unlink(missing_ok=True)
    prompt = np.array([[5, 17, 33, 60, 61]])
    wanted = Steps(report.model, 1).greedy(prompt, 20)[0].tolist()
    config = json.loads((tmp_path / "out" / "genai_config.json").read_text())
    config["model"]["eos_token_id"] = 98 if 98 not in wanted else 97  # random weights end texts early
    (tmp_path / "out" / "genai_config.json").write_text(json.dumps(config))
    model = genai.Model(str(tmp_path / "out"))
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(max_length=25, do_sample=False)
    generator = genai.Generator(model, parameters)
    generator.append_tokens(prompt.astype(np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    assert [int(token) for token in generator.get_sequence(0)][5:] == wanted
