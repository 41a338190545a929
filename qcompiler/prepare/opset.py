"""Raising the standard operators to a newer opset, one version at a time.

Nodes are replaced in the ``onnx_ir`` graph, so that subgraphs, names and external weights stay what they are:
the converter of the ``onnx`` package (1.23) skips subgraphs and loses metadata, that of ``onnxscript`` (0.7)
begins at opset 18.  A version is taken only when every node can follow, so a model is never half converted.
"""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.tape import Tape

from qcompiler.errors import UnsupportedError
from qcompiler.graph.qdq import ORIGIN
from qcompiler.prepare.adapters import ADAPTERS, UnconvertibleError
from qcompiler.prepare.naming import adopt_names, names_by_value

LOWEST_USABLE_OPSET = 13
"""QuantizeLinear per axis begins here."""

NEWEST_RUNTIME_IR_VERSION = 13
"""ONNX Runtime 1.31 refuses 14, which ``onnx`` 1.23 writes unless told otherwise."""


def raise_opset(model: ir.Model, opset: int, notes: list[str]) -> None:
    """Raise in place to ``opset``, or as far as every node can follow (with a note); never lower.

    Raises:
        UnsupportedError: opset 13 cannot be reached; names the node in the way.
    """
    imports = model.graph.opset_imports
    _fit_ir_version(model, opset, notes)
    if "" not in imports:
        imports[""] = opset
    reached = imports[""]
    while reached < opset:
        try:
            rewrites = _rewrites(model, reached)
        except UnconvertibleError as error:
            if reached < LOWEST_USABLE_OPSET:
                raise UnsupportedError(
                    f"opset {reached} cannot be raised to {LOWEST_USABLE_OPSET}, which quantization needs: {error}; "
                    "export the model with a newer opset"
                ) from error
            notes.append(f"opset stays at {reached} (asked: {opset}): {error}")
            break
        names = names_by_value(model)
        for node, replacement in rewrites:
            _replace(node, replacement)
        reached += 1
        imports[""] = reached
        adopt_names(model, names)
    for node in model.graph.all_nodes():
        node.version = None


def _fit_ir_version(model: ir.Model, opset: int, notes: list[str]) -> None:
    """Set the version of the file format to what ``opset`` needs, and to no more than runtimes read."""
    needed = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", opset)])
    if model.ir_version > NEWEST_RUNTIME_IR_VERSION:
        notes.append(
            f"ir_version lowered from {model.ir_version} to {NEWEST_RUNTIME_IR_VERSION}, the newest runtimes read"
        )
    model.ir_version = min(max(model.ir_version, needed), NEWEST_RUNTIME_IR_VERSION)


def _rewrites(model: ir.Model, version: int) -> list[tuple[ir.Node, Tape]]:
    """Return the nodes that read differently in ``version + 1``, each with what replaces it."""
    rewrites = []
    for node in model.graph.all_nodes():
        adapter = ADAPTERS.get((node.op_type, version)) if node.domain == "" else None
        if adapter is None:
            continue
        tape = Tape()
        try:
            adapter(node, tape)
        except UnconvertibleError as error:
            raise UnconvertibleError(f"{node.name} ({node.op_type}) {error}") from error
        if tape.nodes:
            rewrites.append((node, tape))
    return rewrites


def _replace(node: ir.Node, tape: Tape) -> None:
    graph = node.graph
    assert graph is not None
    main = tape.nodes[-1]
    main.metadata_props.update(node.metadata_props)
    main.name = node.name
    for new in tape.nodes[:-1]:
        new.name = None
        new.metadata_props.pop(ORIGIN, None)
    used = [value for value in node.outputs if value.uses() or value.is_graph_output()]
    outputs = list(main.outputs)[: len(node.outputs)]
    if len(used) > len(outputs):
        raise AssertionError(f"{node.name} loses an output")
    ir.convenience.replace_nodes_and_values(
        graph, node, [node], list(tape.nodes), node.outputs[: len(outputs)], outputs
    )
