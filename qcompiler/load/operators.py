"""Every operator is one that somebody defines: ONNX, ONNX Runtime, or a function of the model."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import onnx
import onnx_ir as ir

from qcompiler.errors import ModelError, suggest
from qcompiler.load.schema import check_node_schema


def check_operators(where: str, model: ir.Model) -> None:
    """Look up every node, in subgraphs and functions too.

    Raises:
        ModelError: a domain that is not imported, or an operator that its domain does not have in
            the version imported; names the node.
    """
    for node in model.graph.all_nodes():
        _check_node(where, node, model.graph.opset_imports, model)
    for function in model.functions.values():
        for node in function.all_nodes():
            _check_node(where, node, function.opset_imports, model)


def _check_node(where: str, node: ir.Node, imports: Mapping[str, int], model: ir.Model) -> None:
    if node.op_identifier() in model.functions:
        return
    name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    made = node.outputs[0].name if node.outputs else ""
    at = f"{where}: node {node.name or made!r} ({name})"
    if node.domain not in imports:
        raise ModelError(
            f"{at}: the model does not import operators of domain {node.domain or 'ai.onnx'!r} "
            f"(it imports {sorted(imports)}); add the opset import"
        )
    version = imports[node.domain]
    if onnx.defs.has(node.op_type, node.domain):
        _check_standard(at, node, version)
    elif node.op_type not in _runtime_operators().get(node.domain, frozenset()):
        raise ModelError(
            f"{at}: is an unknown operator.{_nearest(node, imports)} Replace it, or export again"
        )


def _check_standard(at: str, node: ir.Node, version: int) -> None:
    try:
        schema = onnx.defs.get_schema(node.op_type, max_inclusive_version=version, domain=node.domain)
    except onnx.defs.SchemaError as error:
        raise ModelError(
            f"{at}: does not exist in opset {version}, which the model imports; "
            "raise the opset import or export again"
        ) from error
    check_node_schema(at, node, schema)


def _nearest(node: ir.Node, imports: Mapping[str, int]) -> str:
    known = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == node.domain}
    known |= _runtime_operators().get(node.domain, frozenset())
    if not known:
        return f" Nothing is known about domain {node.domain!r} (imported: {sorted(imports)})."
    return suggest(node.op_type, known)


@functools.cache
def _runtime_operators() -> Mapping[str, frozenset[str]]:
    """Return what ONNX Runtime adds to the standard, by domain; imported only when a model asks."""
    from onnxruntime.capi import onnxruntime_pybind11_state

    operators: dict[str, set[str]] = {}
    for schema in onnxruntime_pybind11_state.get_all_operator_schema():
        operators.setdefault(schema.domain, set()).add(schema.name)
    return {domain: frozenset(names) for domain, names in operators.items()}
