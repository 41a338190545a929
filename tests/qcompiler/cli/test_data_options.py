"""The command line reaches every option that says how data is read, with the library's own defaults."""

from __future__ import annotations

import dataclasses

import pytest

from qcompiler.cli.data import Reading, parse_columns, parse_numbers, parse_size
from qcompiler.cli.options import Checks
from qcompiler.data.options import FLAGS, DataOptions
from qcompiler.errors import OptionError
from qcompiler.request import CompileOptions


def test_defaults_are_those_of_the_library() -> None:
    assert Reading().options() == DataOptions()


def test_every_field_can_be_set() -> None:
    reading = Reading(
        calib_batch=2,
        calib_samples=3,
        calib_column=["a=b"],
        image_size="4x5",
        image_scale=0.5,
        image_mean="1,2,3",
        image_std="4",
        image_layout="NHWC",
        image_resize=1.5,
        image_order="BGR",
        tokenizer=None,
        sequence_length=6,
        text_column="body",
        seed=7,
    )
    made, default = reading.options(), DataOptions()
    same = [
        field.name
        for field in dataclasses.fields(DataOptions)
        if getattr(made, field.name) == getattr(default, field.name)
    ]
    assert same == ["tokenizer", "own_tokenizer"]
    assert (made.image_size, made.columns, made.image_std) == ((4, 5), {"a": "b"}, (4.0,))


def test_flags_named_by_the_library_exist() -> None:
    """Messages of the library name flags; each must be one."""
    assert set(FLAGS) == {field.name for field in dataclasses.fields(DataOptions)} - {"own_tokenizer"}
    assert set(FLAGS.values()) == {
        f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(Reading)
    }


def test_checks_default_to_those_of_the_library_but_for_speed() -> None:
    checks, library = Checks(), CompileOptions()
    assert checks.verify == "speed"
    for name in ("verify_data", "strict", "min_cosine", "threads"):
        assert getattr(checks, name) == getattr(library, name)


@pytest.mark.parametrize(("text", "size"), [("224", (224, 224)), ("480x640", (480, 640)), (None, None)])
def test_sizes(text: str | None, size: tuple[int, int] | None) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "x", "1x2x3", "-1", "2.5"])
def test_impossible_sizes(text: str) -> None:
    with pytest.raises(OptionError, match="image-size"):
        parse_size(text)


def test_numbers_and_columns_refuse_what_they_cannot_read() -> None:
    with pytest.raises(OptionError, match="--image-std"):
        parse_numbers("1,,2", "--image-std")
    with pytest.raises(OptionError, match="twice"):
        parse_columns(["a=b", "a=c"])
