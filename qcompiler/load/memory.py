"""A model that is already an ``onnx_ir.Model``: checked and cloned."""

from __future__ import annotations

import copy
from pathlib import Path

import onnx_ir as ir

from qcompiler.errors import ModelError
from qcompiler.load.external import check_external
from qcompiler.load.versions import check_versions
from qcompiler.tensors import mapped


def clone_model(where: str, source: ir.Model) -> ir.Model:
    """Return a copy that shares the bytes of weights with ``source`` and nothing else.

    Raises:
        ModelError: no outputs, a value that nothing defines, or external data that is not there.
        UnsupportedError: a version that is not known.
    """
    check_versions(where, source.ir_version, source.graph.opset_imports.get(""))
    if not source.graph.outputs:
        raise ModelError(f"{where}: the graph has no outputs; add them to graph.outputs")
    _check_defined(where, source)
    model = source.clone()
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is None:
                raise ModelError(f"{where}: initializer {value.name!r} has no data; set its const_value")
            value.const_value = _own(where, value.const_value)
    return model


def _own(where: str, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    """Return a tensor over the same bytes whose name can change without changing the caller's."""
    if isinstance(tensor, ir.ExternalTensor):
        check_external(
            f"{where}: initializer {tensor.name!r}",
            Path(tensor.base_dir),
            str(tensor.location),
            offset=tensor.offset or 0,
            length=tensor.length,
            size_bytes=tensor.nbytes,
        )
        return mapped(tensor)
    if isinstance(tensor, ir.TensorProtoTensor):
        return ir.Tensor(tensor.numpy(), dtype=tensor.dtype, shape=tensor.shape, name=tensor.name)
    return copy.copy(tensor)


def _check_defined(where: str, model: ir.Model) -> None:
    seen: set[ir.Node] = set()
    for node in model.graph.all_nodes():
        for value in node.inputs:
            if value is not None:
                _check_value(f"{where}: node {node.name!r} ({node.op_type})", value, seen)
        seen.add(node)


def _check_value(at: str, value: ir.Value, seen: set[ir.Node]) -> None:
    producer = value.producer()
    if producer is not None and producer not in seen:
        raise ModelError(f"{at}: reads {value.name!r}, which is made later; call model.graph.sort() first")
    if producer is None and not value.is_graph_input() and not value.is_initializer():
        raise ModelError(
            f"{at}: reads {value.name!r}, which nothing defines; add it to the graph's inputs or initializers"
        )
