"""Every command does what it says, as text and as JSON."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.pipeline.options import describe
from qcompiler.pipeline.registry import PASSES, TARGETS, pass_class
from tests.qcompiler.cli.conftest import Qcompile

NUMERICS = ("--target", "onnx", "--verify", "numerics")


def test_compile_is_the_command_when_none_is_named(qcompile: Qcompile, digits: Path, tmp_path: Path) -> None:
    arguments = (digits, "--passes", "int8_dynamic", *NUMERICS)
    for folder, prefix in ((tmp_path / "a", ()), (tmp_path / "b", ("compile",))):
        ran = qcompile(*prefix, *arguments, "-o", folder)
        assert ran.code == 0, ran.err
        assert "digits.qc.onnx" in ran.out
        assert (folder / "digits.qc.onnx").is_file()
        assert (folder / "digits.qc.manifest.json").is_file()


def test_options_may_come_before_the_model(qcompile: Qcompile, digits: Path, tmp_path: Path) -> None:
    ran = qcompile("--passes", "int8_dynamic", *NUMERICS, "-o", tmp_path / "model.onnx", digits)
    assert ran.code == 0, ran.err
    assert (tmp_path / "model.onnx").is_file()


def test_compile_as_json(qcompile: Qcompile, digits: Path, digits_data: Path, tmp_path: Path) -> None:
    ran = qcompile(
        digits, "--passes", "int8_static", "--calib", digits_data, *NUMERICS, "-o", tmp_path, "--json"
    )
    assert ran.code == 0, ran.err
    facts = ran.document
    assert facts["path"] == str(tmp_path / "digits.qc.onnx")
    assert facts["size_before_bytes"] == digits.stat().st_size
    assert facts["size_after_bytes"] == (tmp_path / "digits.qc.onnx").stat().st_size
    assert {item["comparison"] for item in facts["outputs"]} == {"quantization", "lowering", "deployed"}
    assert [item["name"] for item in facts["passes"]] == ["int8_static"]
    assert facts["pipeline"][0]["options"]["calibrator"] == "mse"
    assert facts["samples"] > 0


def test_quiet_prints_nothing(qcompile: Qcompile, digits: Path, tmp_path: Path) -> None:
    ran = qcompile(digits, "--passes", "int8_dynamic", *NUMERICS, "-o", tmp_path, "-q")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_random_calibration_data_is_taken_and_called_random(
    qcompile: Qcompile, digits: Path, tmp_path: Path
) -> None:
    arguments = (digits, "--passes", "int8_static", "--calib", "random", *NUMERICS, "-o", tmp_path)
    ran = qcompile(*arguments, "--json")
    assert ran.code == 0, ran.err
    assert any("random" in line for line in ran.document["warnings"])
    strict = qcompile(*arguments, "--strict")
    assert strict.code == 1
    assert "random" in strict.err


def test_a_recipe_and_exclusions(qcompile: Qcompile, digits: Path, digits_data: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("passes:\n  - int8_static: {calibrator: minmax}\ntarget: onnx\nexclude: ['/stem*']\n")
    ran = qcompile(
        digits, "--recipe", recipe, "--calib", digits_data, "--exclude", "op:Gemm", "-o", tmp_path, "--json"
    )
    assert ran.code == 0, ran.err
    assert ran.document["pipeline"][0]["options"]["calibrator"] == "minmax"
    groups = {group["reason"]: group["nodes"] for group in ran.document["left_in_float"]}
    assert set(groups["excluded by the user"]) == {"/stem.0/Conv", "/classifier/Gemm"}


def test_inspect(qcompile: Qcompile, language_model: Path) -> None:
    ran = qcompile("inspect", language_model)
    assert ran.code == 0, ran.err
    assert "22 MatMul" in ran.out
    assert "Softmax" in ran.out
    found = qcompile("inspect", language_model, "--target", "onnx", "--json").document
    assert found["target"] == "onnx"
    assert found["operators"]["MatMul"] == 28
    assert len(found["weights"]) == 23


def test_compare(qcompile: Qcompile, digits: Path, digits_data: Path) -> None:
    arguments = ("compare", digits, digits, "--data", digits_data, "--samples", "4", "--worst", "3")
    ran = qcompile(*arguments)
    assert ran.code == 0, ran.err
    assert "logits" in ran.out
    assert "exact" in ran.out
    found = qcompile(*arguments, "--json").document
    assert len(found["worst"]) == 3
    assert found["outputs"][0]["cosine"] == pytest.approx(1.0)  # the same model twice
    assert found["samples"] == 4


def test_bench_says_that_its_data_is_random(qcompile: Qcompile, digits: Path) -> None:
    arguments = ("bench", digits, digits, "--seconds", "0.5", "--rounds", "3", "--no-memory")
    ran = qcompile(*arguments)
    assert ran.code == 0, ran.err
    assert "random" in ran.out.lower()
    found = qcompile(*arguments, "--json").document
    assert found["models"][0]["ratio"] is None
    assert found["models"][1]["ratio"] > 0


@pytest.mark.parametrize(("command", "names"), [("passes", PASSES), ("targets", TARGETS)])
def test_listings_name_everything(command: str, names: dict[str, str], qcompile: Qcompile) -> None:
    ran = qcompile(command)
    assert ran.code == 0, ran.err
    assert set(names) <= set(ran.out.split())
    assert {entry["name"] for entry in qcompile(command, "--json").document} >= set(names)


def test_one_pass_shows_every_option(qcompile: Qcompile) -> None:
    ran = qcompile("passes", "int8_static")
    for option in describe(pass_class("int8_static")):
        assert option.name in ran.out
        assert str(option.default).lower() in ran.out.lower()
        assert set(option.choices) <= set(ran.out.replace("|", " ").split())
    assert "50..100" in ran.out
    assert "arXiv:1712.05877" in ran.out


@pytest.mark.parametrize("command", ["compile", "inspect", "compare", "bench", "export", "passes", "targets"])
def test_every_command_has_help_with_an_example(command: str, qcompile: Qcompile) -> None:
    ran = qcompile(command, "--help")
    assert ran.code == 0
    assert "Example: qcompile" in ran.out
    assert "--debug" in ran.out
    assert command in qcompile("--help").out


def test_no_arguments_show_help(qcompile: Qcompile) -> None:
    assert qcompile().out == qcompile("--help").out


def test_version(qcompile: Qcompile) -> None:
    from qcompiler import __version__

    assert qcompile("--version").out == f"qcompile {__version__}\n"
