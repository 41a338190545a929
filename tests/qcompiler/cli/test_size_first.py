"""--size-first is a word for an option of the target."""

from __future__ import annotations

import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.cli.options import with_size_first
from qcompiler.errors import OptionError
from qcompiler.pipeline.parse import parse_target


def test_adds_an_option_to_the_target() -> None:
    assert parse_target(with_size_first(None, beside_recipe=False)) == OrtCpu(size_first=True)
    target = parse_target(with_size_first("ort-cpu:exact=true", beside_recipe=True))
    assert target == OrtCpu(exact=True, size_first=True)


def test_refuses_what_it_would_replace_or_repeat() -> None:
    with pytest.raises(OptionError, match="beside a recipe"):
        with_size_first(None, beside_recipe=True)
    with pytest.raises(OptionError, match="target onnx keeps one form of every weight"):
        with_size_first("onnx", beside_recipe=False)
