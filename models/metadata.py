"""What a training recipe records beside the model it made."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

import onnx_ir as ir

from qcompiler.models.catalog import TrainedModel


def write_metadata(model: TrainedModel, *, figure: float, recipe: str, settings: dict[str, float]) -> None:
    """Write ``metadata.json``: the float figure, the command that made it, its settings and the versions used."""
    graph = ir.load(model.onnx).graph
    parameters = sum(
        value.const_value.size for value in graph.initializers.values() if value.const_value is not None
    )
    record = {
        "name": model.name,
        model.metric: round(figure, 6),
        "parameters": parameters,
        "size_bytes": model.onnx.stat().st_size,
        "recipe": recipe,
        "settings": settings,
        "versions": {"python": platform.python_version(), "torch": version("torch")},
        "license": "Apache-2.0",
    }
    model.metadata.write_text(json.dumps(record, indent=2) + "\n")
