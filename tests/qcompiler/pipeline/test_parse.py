"""The words of --passes and --target, recipes, and every way in which they are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from qcompiler.errors import OptionError
from qcompiler.passes.int8_dynamic import Int8Dynamic
from qcompiler.passes.int8_static import Int8Static
from qcompiler.passes.integers import Int4
from qcompiler.passes.smoothquant import SmoothQuant
from qcompiler.pipeline.parse import (
    make_pass,
    parse_passes,
    parse_target,
    read_recipe,
    recipe_passes,
)
from qcompiler.pipeline.selected import Selected


def test_passes_and_options_come_in_order() -> None:
    made = parse_passes("smoothquant:alpha=0.6:insert_mul=true, int8_static:per_channel=false")
    assert made == [SmoothQuant(alpha=0.6, insert_mul=True), Int8Static(per_channel=False)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no pass is named"),
        (" , ", "no pass is named"),
        ("smothquant", "there is no pass 'smothquant'. Did you mean 'smoothquant'?"),
        ("int8_dynamic,,int8_static", "there is no pass ''"),
        ("smoothquant:alpha", "'alpha' is not of the form option=value"),
        ("smoothquant:alpha=", "is not of the form option=value"),
        ("smoothquant:=1", "is not of the form option=value"),
        ("smoothquant:", "is not of the form option=value"),
        ("smoothquant:alpha=0.5:alpha=0.6", "option 'alpha' is given twice"),
        ("smoothquant:alfa=0.5", "pass smoothquant has no option 'alfa'. Did you mean 'alpha'?"),
        ("smoothquant:alpha=2", "expected between 0 and 1"),
        ("int8_static:calibrator=kl", "option 'calibrator' is 'kl'"),
    ],
)
def test_passes_that_make_no_sense_are_refused(text: str, message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_passes(text)
    assert message in str(caught.value)


def test_targets_take_options_the_same_way() -> None:
    assert parse_target("ort-cpu:isa=avx2").name == "ort-cpu"
    with pytest.raises(OptionError, match=r"there is no target 'ort-cpi'. Did you mean 'ort-cpu'"):
        parse_target("ort-cpi")
    with pytest.raises(OptionError, match="target ort-cpu: option 'isa' is 'mmx'"):
        parse_target("ort-cpu:isa=mmx")


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_recipe_gives_passes_target_and_nodes(tmp_path: Path) -> None:
    recipe = read_recipe(
        write(
            tmp_path,
            """
            target: ort-cpu:isa=avx2
            exclude: ["/lm_head*"]
            passes:
              - smoothquant: {alpha: 0.6}
              - int8_dynamic:
              - int8_static:per_channel=no
            """,
        )
    )
    assert recipe_passes(recipe) == [
        Selected(SmoothQuant(alpha=0.6)),
        Selected(Int8Dynamic()),
        Selected(Int8Static(per_channel=False)),
    ]
    assert recipe.target == "ort-cpu:isa=avx2"
    assert recipe.exclude == ["/lm_head*"]
    assert recipe.include == []


def test_a_pass_of_a_recipe_may_have_nodes_of_its_own(tmp_path: Path) -> None:
    recipe = read_recipe(
        write(
            tmp_path,
            """
            passes:
              - int4: {group: 64, include: [/fc1, "/layer[0-3]/*"], exclude: op:Gather}
              - int4: {include: [/fc2]}
            """,
        )
    )
    assert recipe_passes(recipe) == [
        Selected(Int4(group=64), ("/fc1", "/layer[0-3]/*"), ("op:Gather",)),
        Selected(Int4(), ("/fc2",)),
    ]


def test_other_options_of_a_pass_are_no_lists(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="option 'group' of a pass in a recipe is a list"):
        recipe_passes(read_recipe(write(tmp_path, "passes: [{int4: {group: ['64']}}]")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file"),
        ("passes: [", "is not YAML"),
        ("passes: int8_static", "passes"),
        ("target: ort-cpu", "passes: Field required"),
        (
            "passes: [int8_dynamic]\npases: []",
            "pases: Extra inputs are not permitted. Keys are passes, target",
        ),
        ("passes: [int8_dynamic]\nexclude: x", "exclude"),
        ("passes:\n- smoothquant: {alpha: 0.5, alpha: 0.6}", "'alpha' is given twice"),
        ("passes:\n- smoothquant:\n  alpha: 0.6", "passes.0"),
        ("? [a, b]\n: 1", "is not YAML"),
        ("passes: !!python/object/apply:os.system [ls]", "is not YAML"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(OptionError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_recipes_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        read_recipe(tmp_path / "missing.yaml")
    with pytest.raises(OptionError, match="cannot be read"):
        read_recipe(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match=r"cannot be read|is not YAML"):
        read_recipe(binary)


def test_a_recipe_must_name_a_pass_and_its_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="names no pass"):
        recipe_passes(read_recipe(write(tmp_path, "passes: []")))
    with pytest.raises(OptionError, match="no option 'alfa'"):
        recipe_passes(read_recipe(write(tmp_path, "passes: [{smoothquant: {alfa: 1}}]")))
    with pytest.raises(OptionError, match="between 0 and 1"):
        make_pass("smoothquant", {"alpha": -1})
