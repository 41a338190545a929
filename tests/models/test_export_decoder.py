"""Decoders with their cache, family by family, against Transformers itself; the folder; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

pytestmark = pytest.mark.export
transformers: Any = pytest.importorskip("transformers", reason="the extra export is not installed")
torch: Any = pytest.importorskip("torch", reason="the extra export is not installed")

from qcompiler.errors import ModelError, OptionError, UnsupportedError, VerificationError  # noqa: E402
from qcompiler.models.export_choice import ExportChoice, export_checkpoint  # noqa: E402
from qcompiler.models.export_decoder import DecoderReport, export_decoder, is_decoder  # noqa: E402
from tests.models.conftest import Exported  # noqa: E402
from tests.models.decoders import FAMILIES, SMALL, VOCABULARY, Steps, build  # noqa: E402

PLAIN = {"bloom"}
"""Families whose attention is no GroupQueryAttention: ALiBi."""

TOLERANCE = 2e-5
"""float32 sums of two layers in another order, relative to logits of order 5."""


def tokens(batch: int = 2, length: int = 24, seed: int = 0) -> Any:
    return torch.randint(3, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def torch_logits(model: Any, ids: Any, **given: Any) -> Any:
    with torch.no_grad():
        return model(input_ids=ids, **given).logits.numpy()


@pytest.mark.parametrize("family", FAMILIES)
def test_family(family: str, exported: Exported) -> None:
    """24 tokens are four windows of the families that have one."""
    model, report = exported(family)
    assert report.attention == ("standard operators" if family in PLAIN else "GroupQueryAttention")
    assert bool(report.attention_reason) == (family in PLAIN)
    ids = tokens()
    expected, rows = torch_logits(model, ids), ids.numpy()
    limit = TOLERANCE * float(np.abs(expected).max())
    pieces = Steps(report.model, 2)
    stepped = [pieces(rows[:, :9]), *(pieces(rows[:, at : at + 1]) for at in range(9, 24))]
    assert np.abs(Steps(report.model, 2)(rows) - expected).max() < limit
    assert np.abs(np.concatenate(stepped, axis=1) - expected).max() < limit
    chunked = Steps(report.model, 1)
    halves = np.concatenate([chunked(rows[:1, :9]), chunked(rows[:1, 9:])], axis=1)
    assert np.abs(halves - expected[:1]).max() < limit
    wanted = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=20, min_new_tokens=20, do_sample=False
    )
    assert np.array_equal(_without_end(Steps(report.model, 2), rows, 20), wanted[:, 24:].numpy())


def _without_end(steps: Steps, prompt: Any, count: int) -> Any:
    """Greedy tokens while the end of the text is forbidden, as ``min_new_tokens`` has it."""
    found, given = [], prompt
    for _ in range(count):
        logits = steps(given)[:, -1:]
        logits[..., 2] = -np.inf
        given = logits.argmax(-1)
        found.append(given)
    return np.concatenate(found, axis=1)


def test_names_and_axes(exported: Exported) -> None:
    _, report = exported("llama")
    past, present = ("batch", 2, "past_sequence", 8), ("batch", 2, "total_sequence", 8)
    parts = [f"{layer}.{part}" for layer in range(2) for part in ("key", "value")]
    assert report.inputs == {
        "input_ids": ("batch", "sequence"),
        "attention_mask": ("batch", "total_sequence"),
        **{f"past_key_values.{part}": past for part in parts},
    }
    assert report.outputs == {
        "logits": ("batch", "sequence", VOCABULARY),
        **{f"present.{part}": present for part in parts},
    }
    nodes = {node.name: node.op_type for node in ir.load(report.model).graph}
    assert nodes["/model/layers.1/self_attn/GroupQueryAttention"] == "GroupQueryAttention"
    assert nodes["/model/layers.0/mlp/up_proj/MatMul"] == "MatMul"
    assert (report.layers, report.kv_heads, report.head_size) == (2, 2, 8)


def test_rows_of_different_length_are_padded_on_the_right(
    exported: Exported,
) -> None:
    model, report = exported("llama")
    ids, mask = tokens(length=9).numpy(), np.ones((2, 9), np.int64)
    mask[1, 5:] = 0
    steps = Steps(report.model, 2)
    first = steps(ids, mask)
    after = tokens(length=1, seed=3).numpy()
    second = steps(after)
    alone = torch.tensor(np.concatenate([ids[1:, :5], after[1:]], axis=1))
    expected = torch_logits(model, alone)
    np.testing.assert_allclose(first[1:, :5], expected[:, :5], atol=1e-4)  # TOLERANCE of logits of order 5
    np.testing.assert_allclose(second[1:, 0], expected[:, 5], atol=1e-4)


def test_tied_embeddings_stay_one_initializer(exported: Exported) -> None:
    model, report = exported("qwen2")
    large = [
        value.const_value.size
        for value in ir.load(report.model).graph.initializers.values()
        if value.const_value is not None and value.const_value.size >= VOCABULARY * 32
    ]
    assert model.config.tie_word_embeddings
    assert large == [VOCABULARY * 32]


def test_folder_and_genai_config(exported: Exported) -> None:
    _, report = exported("llama")
    folder = report.model.parent
    names = {
        "config.json", "generation_config.json", "genai_config.json", "model.onnx", "tokenizer.json",
    }  # fmt: skip
    assert set(report.files) == names == {path.name for path in folder.iterdir()}
    assert not any("tokenizer" in note for note in report.notes)
    genai = json.loads((folder / "genai_config.json").read_text())
    assert genai["model"]["type"] == "llama"
    assert (genai["model"]["eos_token_id"], genai["model"]["pad_token_id"]) == (2, 0)
    assert genai["model"]["context_length"] == 128
    decoder = genai["model"]["decoder"]
    assert (decoder["head_size"], decoder["num_key_value_heads"], decoder["num_hidden_layers"]) == (8, 2, 2)
    assert decoder["inputs"]["past_key_names"] == "past_key_values.%d.key"


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_stored_type_and_shards(tmp_path: Path, dtype: str) -> None:
    model = build("qwen3").to(getattr(torch, dtype))
    model.save_pretrained(tmp_path / "in", max_shard_size="10KB")
    assert len(list((tmp_path / "in").glob("*.safetensors"))) > 1
    report = export_decoder(tmp_path / "in", tmp_path / "out")
    assert report.weights == dtype
    types = {
        value.const_value.dtype
        for value in ir.load(report.model).graph.initializers.values()
        if value.const_value is not None and value.const_value.size > 1024
    }
    assert types == {ir.DataType[dtype.upper()]}
    assert any("no tokenizer" in note for note in report.notes)


def test_plain_attention_on_request(tmp_path: Path, exported: Exported) -> None:
    """Standard operators, and rows that go on by several tokens at once."""
    model, report = exported("llama")
    report = export_decoder(report.model.parent.parent / "llama", tmp_path, attention="plain")
    assert report.attention == "standard operators"
    assert {node.domain for node in ir.load(report.model).graph} == {""}
    ids = tokens()
    steps = Steps(report.model, 2)
    halves = np.concatenate([steps(ids[:, :9].numpy()), steps(ids[:, 9:].numpy())], axis=1)
    np.testing.assert_allclose(halves, torch_logits(model, ids), atol=1e-4)  # TOLERANCE of logits of order 5


def test_a_wrong_result_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build("phi").save_pretrained(tmp_path / "in")
    with pytest.raises(VerificationError, match="logits differ from torch"):
        export_decoder(tmp_path / "in", tmp_path / "out", tolerance=1e-12)
    assert not (tmp_path / "out").exists()


def test_what_has_no_such_cache_is_named(tmp_path: Path) -> None:
    config = transformers.MambaConfig(vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path / "in")
    with pytest.raises(
        UnsupportedError, match=r"MambaForCausalLM cannot be exported with a cache.*--no-cache"
    ):
        export_decoder(tmp_path / "in", tmp_path / "out")


def test_broken_checkpoints(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    build("llama").save_pretrained(folder, max_shard_size="20KB")
    shard = sorted(folder.glob("*.safetensors"))[0]
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"has \d+ bytes where its header says \d+"):
        export_decoder(folder, tmp_path / "out")
    shard.write_bytes(whole[:5])
    with pytest.raises(ModelError, match="cut short or no safetensors"):
        export_decoder(folder, tmp_path / "out")
    shard.unlink()
    with pytest.raises(ModelError, match=r"1 of \d+ weight files are missing"):
        export_decoder(folder, tmp_path / "out")
    for path in folder.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(ModelError, match="no weights in it"):
        export_decoder(folder, tmp_path / "out")
    config = json.loads((folder / "config.json").read_text())
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "lama"}))
    with pytest.raises(UnsupportedError, match=r"'lama'.*Did you mean 'llama'"):
        is_decoder(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        export_decoder(folder, tmp_path / "out")


def test_choice_of_export(tmp_path: Path) -> None:
    build("qwen3").save_pretrained(tmp_path / "lm")
    bert = transformers.BertModel(
        transformers.BertConfig(**{**SMALL, "num_hidden_layers": 1}, type_vocab_size=1)
    )
    bert.save_pretrained(tmp_path / "bert")
    assert is_decoder(tmp_path / "lm")
    assert not is_decoder(tmp_path / "bert")
    plain = export_checkpoint(tmp_path / "lm", tmp_path / "plain", ExportChoice(attention="eager"))
    assert not isinstance(plain, DecoderReport)
    assert "--attention eager" in plain.notes[0]
    assert plain.model == tmp_path / "plain" / "model.onnx"
    assert list(plain.outputs) == ["logits"]
    encoder = export_checkpoint(tmp_path / "bert", tmp_path / "encoder", ExportChoice(cache=False))
    assert encoder.notes == ()
    assert encoder.model == tmp_path / "encoder" / "model.onnx"
    with pytest.raises(OptionError, match="no decoder of text"):
        export_checkpoint(tmp_path / "bert", tmp_path / "x", ExportChoice(cache=True))
    with pytest.raises(OptionError, match="give a folder"):
        export_checkpoint(tmp_path / "lm", tmp_path / "x.onnx", ExportChoice(cache=True))
    with pytest.raises(OptionError, match="--input excludes --cache"):
        export_checkpoint(tmp_path / "lm", tmp_path / "x", ExportChoice(cache=True, inputs=("input_ids",)))
    with pytest.raises(OptionError, match="--attention plain"):
        export_checkpoint(tmp_path / "lm", tmp_path / "x.onnx", ExportChoice(attention="plain"))
