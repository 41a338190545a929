"""What the user asked for, checked before anything is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.passes.int8_static import Int8Static
from qcompiler.passes.smoothquant import SmoothQuant
from qcompiler.request import CompileOptions, Request, resolve


def asked(
    passes: object = "int8_dynamic", recipe: Path | None = None, target: str | None = None, **globs: object
) -> Request:
    return resolve(passes, recipe, target, globs.get("include", ()), globs.get("exclude", ()))  # type: ignore[arg-type]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "passes:\n  - smoothquant:\n      alpha: 0.6\n  - int8_static\n"
        "target: ort-cpu:isa=avx2\ninclude: ['*']\nexclude: ['op:Gather']\n"
    )
    return path


@pytest.mark.parametrize(
    "passes",
    [
        "smoothquant:alpha=0.6,int8_static",
        ["smoothquant:alpha=0.6", "int8_static"],
        ["smoothquant:alpha=0.6", Int8Static()],
        [SmoothQuant(alpha=0.6), Int8Static()],
    ],
)
def test_passes_can_be_words_objects_or_both(passes: object) -> None:
    assert asked(passes).passes == (SmoothQuant(alpha=0.6), Int8Static())


def test_a_recipe_says_everything(recipe: Path) -> None:
    request = asked(None, recipe)
    assert request.passes == (SmoothQuant(alpha=0.6), Int8Static())
    assert request.target.name == "ort-cpu"
    assert request.target.weight.bits == 7  # avx2
    assert (request.include, request.exclude) == (("*",), ("op:Gather",))


def test_what_is_given_beside_a_recipe_wins_or_adds(recipe: Path) -> None:
    request = asked(None, recipe, target="onnx", exclude=["/lm_head*"])
    assert request.target.name == "onnx"
    assert request.exclude == ("op:Gather", "/lm_head*")


def test_one_glob_is_not_a_sequence_of_letters() -> None:
    request = asked(include="op:Conv", exclude="/lm_head*")
    assert (request.include, request.exclude) == (("op:Conv",), ("/lm_head*",))


def test_the_instruction_set_of_the_host_is_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest that says "host" does not say what the weights were made for."""
    monkeypatch.setattr("qcompiler.backends.onnxruntime.cpu.host_isa", lambda: Isa.ARM64)
    assert asked().target == OrtCpu(isa=Isa.ARM64)
    assert asked(target="ort-cpu:isa=avx2").target == OrtCpu(isa=Isa.AVX2)


@pytest.mark.parametrize("passes", [None, [], ()])
def test_no_pass_is_an_error(passes: object) -> None:
    with pytest.raises(OptionError, match="pass"):
        asked(passes)


def test_passes_beside_a_recipe_are_an_error(recipe: Path) -> None:
    with pytest.raises(OptionError, match="either"):
        asked("int8_dynamic", recipe)


def test_a_target_that_cannot_be_used_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcompiler.backends.onnxruntime.cpu.OrtCpu.available", lambda _: "it is not here")
    with pytest.raises(UnsupportedError, match="ort-cpu cannot be used here: it is not here"):
        asked()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"verify": "sped"}, "Did you mean 'speed'"),
        ({"min_cosine": 2.0}, "between -1 and 1"),
        ({"min_cosine": float("nan")}, "between -1 and 1"),
        ({"threads": 0}, "at least 1"),
    ],
)
def test_impossible_settings_are_errors(settings: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        CompileOptions(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("passes", "words"),
    [
        ("int4,awq", "int4 comes before it; write awq,int4."),
        ("awq,int8_static", "int8_static is none; write awq,int4, or smoothquant,int8_static."),
    ],
)
def test_a_pass_where_it_makes_no_sense_is_refused(passes: str, words: str) -> None:
    with pytest.raises(OptionError) as caught:
        asked(passes)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "passes", ["awq", "awq,int4", "awq,kv_int8", "kv_int8,awq", "awq,awq,q4_k:solver=gptq"]
)
def test_awq_goes_before_few_bits(passes: str) -> None:
    assert asked(passes).passes[-1].name in ("int4", "q4_k")
