"""Exports of decoders, each made once: tracing takes most of the time of these tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from qcompiler.models.export_decoder import DecoderReport

Exported = Callable[[str], tuple[Any, "DecoderReport"]]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The model of a family and the report of its export; the checkpoint, ``{family}`` beside the folder, has a
    tokenizer for Llama only."""
    from qcompiler.models.export_decoder import export_decoder
    from tests.models.decoders import build

    root = tmp_path_factory.mktemp("decoders")
    made: dict[str, tuple[Any, DecoderReport]] = {}

    def export(family: str) -> tuple[Any, DecoderReport]:
        if family not in made:
            model = build(family)
            model.save_pretrained(root / family)
            if family == "llama":
                (root / family / "tokenizer.json").write_text("{}")
            made[family] = model, export_decoder(root / family, root / f"{family}-onnx")
        return made[family]

    return export
