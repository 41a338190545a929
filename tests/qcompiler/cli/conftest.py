"""Running ``qcompile`` inside the test process."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from qcompiler.models.catalog import DIGITS, PYDOC_LM


@dataclass(frozen=True)
class Ran:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)


Qcompile = Callable[..., Ran]


@pytest.fixture
def qcompile(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Qcompile:
    """Return a function that runs ``qcompile`` with the arguments given, 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")

    def invoke(*arguments: str | Path) -> Ran:
        from qcompiler.cli.entry import run

        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return invoke


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command sets up logging for its process; the other tests must not notice."""
    logger = logging.getLogger("qcompiler")
    before = (logger.level, list(logger.handlers), logger.propagate)
    yield
    logging.captureWarnings(False)
    logger.level, logger.handlers, logger.propagate = before


@pytest.fixture
def digits() -> Path:
    return DIGITS.onnx


@pytest.fixture
def digits_data() -> Path:
    return DIGITS.calibration


@pytest.fixture
def language_model() -> Path:
    return PYDOC_LM.onnx
