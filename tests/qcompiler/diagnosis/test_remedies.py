"""Commands that are printed give what they say: pipelines with nodes of their own go by their recipe."""

from __future__ import annotations

import json
from pathlib import Path

from qcompiler.diagnosis.facts import Culprit
from qcompiler.diagnosis.recipe import Command, recipe_of
from qcompiler.diagnosis.remedies import remedies

COMMAND = Command("model.onnx", "data.npz")
CULPRIT = Culprit("weight", "/head/Gemm", "y", ("/head/Gemm",), 20.0, 0.9, None, "", "")


def quantized(folder: Path, *, own: bool, **more: object) -> Path:
    """A model's path, with the manifest of ``int2`` and ``int8_dynamic`` beside it."""
    steps = [{"name": "int2", "options": {"solver": "gptq"}, "include": ["/head/Gemm"] if own else []}]
    steps += [{"name": "int8_dynamic", "options": {}, "exclude": ["/head/Gemm"] if own else []}]
    (folder / "model.qc.manifest.json").write_text(json.dumps({"pipeline": steps, **more}), encoding="utf-8")
    return folder / "model.qc.onnx"


def test_a_pipeline_for_all_nodes_is_typed(tmp_path: Path) -> None:
    recipe = recipe_of(quantized(tmp_path, own=False), (), ())
    (found,) = remedies(COMMAND, recipe, [CULPRIT], (), (), (20.0, 30.0))
    assert "--passes int2:solver=gptq,int8_dynamic --calib data.npz --exclude /head/Gemm" in found.command


def test_a_pipeline_with_nodes_of_its_own_goes_by_its_recipe(tmp_path: Path) -> None:
    path = quantized(tmp_path, own=True)
    beside = tmp_path / "model.qc.recipe.yaml"
    beside.write_text("passes: []", encoding="utf-8")
    (found,) = remedies(COMMAND, recipe_of(path, (), ()), [CULPRIT], (), (), (20.0, 30.0))
    assert f"qcompile model.onnx --recipe {beside} --calib data.npz --exclude /head/Gemm" in found.command
    beside.unlink()
    (found,) = remedies(COMMAND, recipe_of(path, (), ()), [CULPRIT], (), (), (20.0, 30.0))
    assert "--recipe model.qc.recipe.yaml " in found.command


def test_a_typed_pipeline_keeps_its_target_its_nodes_and_how_data_is_read(tmp_path: Path) -> None:
    target = {"name": "ort-cpu", "options": {"isa": "vnni", "size_first": True}}
    made = quantized(tmp_path, own=False, target=target, include=[], exclude=["/tail/*"])
    command = Command("model.onnx", "pictures", ("--image-size", "224x224"))
    (found,) = remedies(command, recipe_of(made, (), ()), [CULPRIT], (), (), (20.0, 30.0))
    assert "--target ort-cpu:isa=vnni:size_first=true --exclude '/tail/*' --calib pictures" in found.command
    assert found.command.endswith("--image-size 224x224 --exclude /head/Gemm")
