"""Checkpoints of random weights through the exporter: what the graph is, that it is right, and what is refused."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.errors import (
    InputError,
    ModelError,
    OptionError,
    OutputError,
    UnsupportedError,
    VerificationError,
)
from qcompiler.models import export as export_module
from qcompiler.models import export_check
from qcompiler.models.export import export_transformers

pytestmark = pytest.mark.export
transformers: Any = pytest.importorskip("transformers", reason="the extra export is not installed")
torch: Any = pytest.importorskip("torch", reason="the extra export is not installed")

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
ONE = {"num_hidden_layers": 1}
"""Where one layer shows it all: tracing takes most of the time."""


@dataclass(frozen=True)
class Case:
    """One architecture: how to build it and the inputs and outputs its graph must have."""

    build: Callable[[], Any]
    inputs: Mapping[str, tuple[int | str, ...]]
    outputs: Mapping[str, tuple[int | str, ...]]
    node: str


TOKENS = ("batch", "sequence")
MASKED = {"input_ids": TOKENS, "attention_mask": TOKENS}
SEGMENTED = {**MASKED, "token_type_ids": TOKENS}


def bert_config(**changes: object) -> Any:
    return transformers.BertConfig(vocab_size=99, max_position_embeddings=64, **{**SMALL, **changes})


CASES = {
    "bert": Case(
        lambda: transformers.BertModel(bert_config()),
        SEGMENTED,
        {"last_hidden_state": (*TOKENS, 32), "pooler_output": ("batch", 32)},
        "/encoder/layer.0/attention/self/query/MatMul",
    ),
    "bert-classifier": Case(
        lambda: transformers.BertForSequenceClassification(
            bert_config(num_labels=3, type_vocab_size=1, **ONE)
        ),
        MASKED,
        {"logits": ("batch", 3)},
        "/classifier/Gemm",
    ),
    "distilbert": Case(
        lambda: transformers.DistilBertModel(
            transformers.DistilBertConfig(vocab_size=99, dim=32, n_layers=1, n_heads=4, hidden_dim=48)
        ),
        MASKED,
        {"last_hidden_state": (*TOKENS, 32)},
        "/transformer/layer.0/ffn/lin1/MatMul",
    ),
    "vit": Case(
        lambda: transformers.ViTForImageClassification(
            transformers.ViTConfig(image_size=32, patch_size=8, num_labels=5, **{**SMALL, **ONE})
        ),
        {"pixel_values": ("batch", 3, 32, 32)},
        {"logits": ("batch", 5)},
        "/classifier/Gemm",
    ),
    "llama": Case(
        lambda: transformers.LlamaForCausalLM(
            transformers.LlamaConfig(vocab_size=99, num_key_value_heads=2, **SMALL)
        ),
        MASKED,
        {"logits": (*TOKENS, 99)},
        "/model/layers.1/mlp/gate_proj/MatMul",
    ),
    "qwen2": Case(
        lambda: transformers.Qwen2ForCausalLM(
            transformers.Qwen2Config(
                vocab_size=99, num_key_value_heads=2, tie_word_embeddings=True, **{**SMALL, **ONE}
            )
        ),
        MASKED,
        {"logits": (*TOKENS, 99)},
        "/model/layers.0/self_attn/q_proj/MatMul",
    ),
    "gpt2": Case(
        lambda: transformers.GPT2LMHeadModel(
            transformers.GPT2Config(vocab_size=99, n_embd=32, n_layer=1, n_head=4, n_positions=64)
        ),
        MASKED,
        {"logits": (*TOKENS, 99)},
        "/transformer/h.0/mlp/c_fc/Gemm",
    ),
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        pytest.fail("the exporter opened a network connection")

    monkeypatch.setattr("socket.socket.connect", refuse)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of the named case's checkpoint, written once."""
    root = tmp_path_factory.mktemp("checkpoints")

    def folder(name: str) -> Path:
        path = root / name
        if not path.exists():
            torch.manual_seed(0)
            CASES[name].build().save_pretrained(path)
        return path

    return folder


def run(path: Path, feeds: dict[str, Any]) -> list[Any]:
    import onnxruntime as ort

    return list(ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, feeds))


@pytest.mark.parametrize("name", [name for name in CASES if name != "bert-classifier"])
def test_architecture(
    name: str, saved: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    case = CASES[name]
    report = export_transformers(saved(name), tmp_path / "model.onnx")
    assert capfd.readouterr().out == ""
    assert report.inputs == case.inputs
    assert report.outputs == case.outputs
    # float32 rounding of two layers on values of order 1
    assert report.max_abs_error < 1e-4
    model = ir.load(report.model)
    assert model.opset_imports[""] == report.opset >= 17
    nodes = list(model.graph.all_nodes())
    assert {node.domain for node in nodes} <= {"", "ai.onnx"}
    assert case.node in {node.name for node in nodes}
    assert len({node.name for node in nodes}) == len(nodes)
    assert not any(node.metadata_props for node in nodes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx"]


def test_a_single_token_and_a_single_row_work(saved: Callable[[str], Path], tmp_path: Path) -> None:
    report = export_transformers(
        saved("llama"), tmp_path / "model.onnx", inputs=["input_ids"], attention="eager"
    )
    assert list(report.inputs) == ["input_ids"]
    tokens = np.random.default_rng(0).integers(0, 99, size=(1, 9))
    whole = run(report.model, {"input_ids": tokens})[0]
    first = run(report.model, {"input_ids": tokens[:, :1]})[0]
    # a causal model: later tokens change nothing before them, up to float32 summation order
    np.testing.assert_allclose(whole[:, :1], first, atol=1e-5)
    assert not any("Cum" in node.op_type for node in ir.load(report.model).graph)


def test_task_opset_and_large_weights(
    saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qcompiler.package.write.EXTERNAL_BYTES", 1000)
    source = saved("bert-classifier")
    report = export_transformers(source, tmp_path / "m.onnx", task="text-classification", opset=18)
    assert report.opset == 18
    assert report.inputs == CASES["bert-classifier"].inputs
    assert report.outputs == CASES["bert-classifier"].outputs
    assert report.data == tmp_path / "m.onnx.data"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert report.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    feeds = {name: np.ones((1, 4), np.int64) for name in report.inputs}
    assert run(report.model, feeds)[0].shape == (1, 3)


def test_a_wrong_result_writes_nothing(
    saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = export_check.reference

    def other(*arguments: Any) -> dict[str, Any]:
        return {name: array + 1 for name, array in original(*arguments).items()}

    monkeypatch.setattr(export_module, "reference", other)
    with pytest.raises(VerificationError, match=r"'logits' differs from torch by 1"):
        export_transformers(saved("vit"), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_state_of_the_process_is_put_back(saved: Callable[[str], Path], tmp_path: Path) -> None:
    from huggingface_hub import constants

    before = dict(os.environ), logging.getLogger("torch.onnx").level, constants.HF_HUB_OFFLINE
    with pytest.raises(ModelError):
        export_transformers(saved("bert"), tmp_path / "m.onnx", task="text-classification")
    after = dict(os.environ), logging.getLogger("torch.onnx").level, constants.HF_HUB_OFFLINE
    assert after == before


def test_a_head_without_weights_is_refused(saved: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no weights for 2 parameters .*classifier.*choose a task"):
        export_transformers(saved("bert"), tmp_path / "m.onnx", task="text-classification")


def test_unusable_directories(tmp_path: Path, saved: Callable[[str], Path]) -> None:
    output = tmp_path / "m.onnx"
    with pytest.raises(InputError, match="expected a directory"):
        export_transformers(tmp_path / "nowhere", output)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelError, match=r"no config\.json"):
        export_transformers(empty, output)
    (empty / "config.json").write_text("{ not json")
    with pytest.raises(ModelError, match="not readable as JSON"):
        export_transformers(empty, output)
    (empty / "config.json").write_text(json.dumps({"model_type": "bert", "architectures": ["BertModel"]}))
    with pytest.raises(ModelError, match="no weights in it"):
        export_transformers(empty, output)
    (empty / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(ModelError, match="weights cannot be loaded"):
        export_transformers(empty, output)
    (empty / "config.json").write_text(json.dumps({"model_type": "berd"}))
    with pytest.raises(UnsupportedError, match=r"'berd'.*Did you mean 'bert'"):
        export_transformers(empty, output)
    (empty / "config.json").write_text(
        json.dumps({"model_type": "bert", "architectures": ["BertForNothing"]})
    )
    with pytest.raises(UnsupportedError, match="BertForNothing"):
        export_transformers(empty, output)
    assert not output.exists()


def test_encoder_decoder_and_audio_are_refused(tmp_path: Path) -> None:
    config = transformers.T5Config(vocab_size=9, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    with pytest.raises(UnsupportedError, match="two graphs"):
        export_transformers(tmp_path / "t5", tmp_path / "m.onnx")


def test_impossible_options(saved: Callable[[str], Path], tmp_path: Path) -> None:
    source = saved("bert")
    with pytest.raises(OptionError, match="18 to 23"):
        export_transformers(source, tmp_path / "m.onnx", opset=16)
    with pytest.raises(OptionError, match="Did you mean 'text-classification'"):
        export_transformers(source, tmp_path / "m.onnx", task="text-clasification")
    with pytest.raises(OptionError, match=r"no input 'pixel_values'"):
        export_transformers(source, tmp_path / "m.onnx", inputs=["pixel_values"])
    with pytest.raises(OptionError, match=r"must end in \.onnx"):
        export_transformers(source, tmp_path / "m.bin")
    (tmp_path / "folder.onnx").mkdir()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="is a folder"):
        export_transformers(source, tmp_path / "folder.onnx")
    with pytest.raises(OutputError, match="cannot be written"):
        export_transformers(source, tmp_path / "file" / "m.onnx")


def test_missing_extra_names_the_remedy(
    saved: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = saved("bert")
    monkeypatch.setitem(__import__("sys").modules, "transformers.exporters", None)
    with pytest.raises(UnsupportedError, match=r"pip install 'qcompiler\[export\]'"):
        export_transformers(source, tmp_path / "m.onnx")


def test_the_processor_states_the_picture_size(saved: Callable[[str], Path], tmp_path: Path) -> None:
    from qcompiler.models.export_inputs import image_size

    model = CASES["vit"].build()
    assert image_size(model, tmp_path) == (32, 32)
    processor = tmp_path / "preprocessor_config.json"
    processor.write_text(json.dumps({"size": {"height": 48, "width": 40}}))
    assert image_size(model, tmp_path) == (48, 40)
    processor.write_text(
        json.dumps({"size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224})
    )
    assert image_size(model, tmp_path) == (224, 224)
