"""Options: what is converted, and every way in which a value is refused."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.errors import OptionError
from qcompiler.pipeline.options import Scalar, build, describe, option, spelled


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Sample:
    name: ClassVar[str] = "sample"

    share: float = option(0.5, "a share", minimum=0, maximum=1)
    count: int = option(3, "how many", minimum=1)
    wide: bool = option(False, "whether")
    colour: Colour = option(Colour.RED, "which")
    mode: Literal["fast", "exact"] = option("fast", "how")
    alpha: float | None = option(None, "given, or searched", minimum=0, maximum=1)
    free: float = option(0.0, "any number")
    text: str = option("", "any text")

    def __post_init__(self) -> None:
        if self.wide and self.count > 10:
            raise ValueError("wide=true takes at most 10")


def make(**given: Scalar) -> Sample:
    return build(Sample, given, owner="pass sample")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"share": "0.25"}, Sample(share=0.25)),
        ({"share": 1}, Sample(share=1.0)),
        ({"share": "0"}, Sample(share=0.0)),
        ({"count": "7"}, Sample(count=7)),
        ({"count": 7}, Sample(count=7)),
        ({"wide": "yes"}, Sample(wide=True)),
        ({"wide": True}, Sample(wide=True)),
        ({"wide": "off"}, Sample(wide=False)),
        ({"colour": "blue"}, Sample(colour=Colour.BLUE)),
        ({"mode": "exact"}, Sample(mode="exact")),
        ({"alpha": "none"}, Sample()),
        ({"alpha": None}, Sample()),
        ({"alpha": "0.6"}, Sample(alpha=0.6)),
        ({"text": "a b"}, Sample(text="a b")),
    ],
)
def test_strings_and_plain_values_are_converted(given: dict[str, Scalar], expected: Sample) -> None:
    made = make(**given)
    assert made == expected
    assert [type(value) for value in vars(made).values()] == [
        type(value) for value in vars(expected).values()
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"shar": 1}, "pass sample has no option 'shar'. Did you mean 'share'?"),
        ({"zzzz": 1}, "Known: alpha, colour"),
        ({"name": "x"}, "has no option 'name'"),
        ({"share": "1.5"}, "option 'share' is 1.5, expected between 0 and 1."),
        ({"share": "-0.1"}, "expected between 0 and 1"),
        ({"share": "nan"}, "expected a finite number"),
        ({"free": "inf"}, "expected a finite number"),
        ({"free": "nan"}, "expected a finite number"),
        ({"share": "much"}, "option 'share' is 'much', expected a number."),
        ({"share": True}, "expected a number"),
        ({"share": None}, "option 'share' is empty"),
        ({"text": None}, "option 'text' is empty"),
        ({"count": "0"}, "option 'count' is 0, expected at least 1."),
        ({"count": "2.5"}, "expected a whole number"),
        ({"count": 2.0}, "expected a whole number"),
        ({"wide": "maybe"}, "option 'wide' is 'maybe', expected true or false."),
        ({"wide": None}, "expected true or false"),
        ({"colour": "rad"}, "option 'colour' is 'rad'. Did you mean 'red'?"),
        ({"mode": "FAST!"}, "option 'mode' is 'FAST!'."),
        ({"alpha": "2"}, "expected between 0 and 1"),
        ({"wide": "true", "count": "11"}, "pass sample: wide=true takes at most 10"),
    ],
)
def test_everything_else_is_refused_by_name(given: dict[str, Scalar], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        make(**given)
    assert message in str(caught.value)
    assert "pass sample" in str(caught.value)


def test_options_are_described_in_order_with_bounds_and_choices() -> None:
    described = {info.name: info for info in describe(Sample)}
    assert list(described) == ["share", "count", "wide", "colour", "mode", "alpha", "free", "text"]
    assert (described["share"].minimum, described["share"].maximum) == (0, 1)
    assert described["colour"].choices == ("red", "blue")
    assert described["mode"].type == "choice"
    assert described["alpha"].type == "float"
    assert described["alpha"].default is None
    assert described["count"].help == "how many"


@given(
    share=st.floats(0, 1),
    count=st.integers(1, 10),
    wide=st.booleans(),
    colour=st.sampled_from(Colour),
    alpha=st.none() | st.floats(0, 1),
)
def test_what_is_spelled_builds_the_same(
    share: float, count: int, wide: bool, colour: Colour, alpha: float | None
) -> None:
    made = Sample(share=share, count=count, wide=wide, colour=colour, alpha=alpha)
    assert build(Sample, spelled(made), owner="pass sample") == made
    as_text: dict[str, Scalar] = {name: str(value) for name, value in spelled(made).items()}
    assert build(Sample, as_text, owner="pass sample") == made
