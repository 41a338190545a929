"""Options of reading as words: those of one command suit another, and read back they are the same."""

from __future__ import annotations

from pathlib import Path

from qcompiler.data.options import DataOptions
from qcompiler.data.words import plain_words, reading_words

OPTIONS = DataOptions(
    batch=4,
    limit=9,
    columns={"x": "pixels"},
    image_size=(480, 640),
    image_mean=(0.5, 0.4, 0.3),
    tokenizer=Path("t"),
)


def test_options_that_are_not_the_default_are_spelled() -> None:
    assert reading_words(DataOptions()) == ()
    words = " ".join(reading_words(OPTIONS))
    assert words == (
        "--calib-batch 4 --calib-column x=pixels --image-size 480x640 --image-mean 0.5,0.4,0.3 --tokenizer t"
    )


def test_words_of_a_compile_are_those_of_a_diagnosis() -> None:
    words = ("m.onnx", "--passes", "int4", "--calib-batch=4", "--calib-samples", "9", "--image-size", "224")
    assert plain_words(words) == ("--batch", "4", "--image-size", "224")
