"""How many bytes a model takes on disk, external data included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx_ir as ir

from qcompiler.errors import ModelError
from qcompiler.package.deployed import deployed_files, is_deployed


def model_size_bytes(path: Path | str) -> int:
    """Return the size of a model and of every file of data or code that it names, each counted once.

    Raises:
        ModelError: it cannot be read as ONNX, or external data is missing.
    """
    path = Path(path)
    if is_deployed(path):
        return sum(path.with_name(name).stat().st_size for name in (path.name, *deployed_files(path)))
    try:
        files = {Path(tensor.path).resolve() for tensor in external_tensors(ir.load(path))}
        return path.stat().st_size + sum(file.stat().st_size for file in files)
    except Exception as error:  # decoding errors of protobuf and onnx_ir share no base class but this one
        raise ModelError(
            f"the size of {path} cannot be read: {error}. Check it with `qcompile inspect`."
        ) from error


def external_tensors(model: ir.Model) -> Iterator[ir.ExternalTensor]:
    """Yield tensors with external data: initializers and attributes of all graphs and functions."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                yield value.const_value
    for nodes in (model.graph.all_nodes(), *(function.all_nodes() for function in model.functions.values())):
        for node in nodes:
            for attribute in node.attributes.values():
                if isinstance(attribute.value, ir.ExternalTensor):
                    yield attribute.value
