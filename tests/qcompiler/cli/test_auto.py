"""The options of --passes auto: how they are read, and that they are refused where nothing is searched."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from qcompiler.auto.facts import Bounds
from qcompiler.cli.auto import Auto, parse_latency
from qcompiler.errors import OptionError
from qcompiler.models.catalog import DIGITS
from qcompiler.report.commands import Command
from tests.qcompiler.cli.conftest import Qcompile


def test_bounds_are_read_with_their_units() -> None:
    asked = Auto(max_drop=0.01, max_size="2MB", max_latency="0.5x", bits=3.5, prefer="speed")
    assert asked.bounds() == Bounds(0.01, 2_000_000, None, 0.5, 3.5, "speed")
    assert parse_latency("12ms") == (None, 12.0)
    assert parse_latency("300us") == (None, 0.3)
    assert parse_latency("1.5 s") == (None, 1500.0)
    assert parse_latency(None) == (None, None)


@pytest.mark.parametrize("text", ["12", "x", "0x", "fast", "-1ms", "0.5 times"])
def test_a_latency_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--max-latency is"):
        parse_latency(text)


def test_a_size_that_is_none_is_refused_under_its_own_name() -> None:
    with pytest.raises(OptionError, match="--max-size is 'small'"):
        Auto(max_size="small").bounds()


@pytest.mark.parametrize(
    "words",
    [
        ("--max-drop", "0.1"),
        ("--bits", "4"),
        ("--prefer", "size"),
        ("--metric", "kl"),
        ("--pareto",),
        ("--estimate",),
    ],
)
def test_options_of_a_search_need_one(qcompile: Qcompile, words: tuple[str, ...]) -> None:
    ran = qcompile(DIGITS.onnx, "--passes", "int8_dynamic", *words)
    assert ran.code == 2
    assert f"{words[0]} is for a search; write --passes auto, or leave it out." in ran.err


def test_auto_stands_alone(qcompile: Qcompile) -> None:
    ran = qcompile(DIGITS.onnx, "--passes", "smoothquant,auto")
    assert ran.code == 2
    assert "auto chooses the passes itself" in ran.err
    ran = qcompile(DIGITS.onnx, "--passes", "auto", "--recipe", "r.yaml")
    assert "either --passes auto or --recipe" in ran.err


def test_a_size_that_no_choice_reaches_is_refused_at_once(qcompile: Qcompile) -> None:
    ran = qcompile(DIGITS.onnx, "--passes", "auto", "--calib", DIGITS.calibration, "--max-size", "1kB")
    assert ran.code == 2
    assert "--max-size is 1 kB, and the least that is possible is" in ran.err


@pytest.mark.parametrize("metric", ["top-1", "not_there_at_all:score"])
def test_a_metric_that_is_none_is_found_before_all_else(
    qcompile: Qcompile, tmp_path: Path, metric: str
) -> None:
    ran = qcompile(
        DIGITS.onnx,
        "--passes",
        "auto",
        "--calib",
        DIGITS.calibration,
        "--metric",
        metric,
        "-o",
        tmp_path / "out",
    )
    assert ran.code == 2
    assert "metric" in ran.err
    assert not (tmp_path / "out").exists()


def test_data_without_answers_leaves_no_work_behind(qcompile: Qcompile, tmp_path: Path) -> None:
    ran = qcompile(
        DIGITS.onnx,
        "--passes",
        "auto",
        "--calib",
        DIGITS.calibration,
        "--metric",
        "spearman",
        "-o",
        tmp_path / "out",
    )
    assert ran.code == 2
    assert "needs an array 'scores'" in ran.err
    assert "is kept in" not in ran.err
    assert not list((tmp_path / "out").glob(".*"))


def test_a_recipe_takes_no_option_of_a_search() -> None:
    typed = ["m.onnx", "--passes", "auto"]
    for field in dataclasses.fields(Auto):
        flag = f"--{field.name.replace('_', '-')}"
        typed += [flag] if "bool" in str(field.type) else [flag, "1"]
    typed += ["--no-estimate"]
    assert Command(tuple(typed)).by_recipe("r.yaml").words == ("m.onnx", "--recipe", "r.yaml")
