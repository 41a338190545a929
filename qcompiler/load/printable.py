"""Names that can stand in a report: without line breaks, escape sequences and other control characters."""

from __future__ import annotations

import re
from collections.abc import Iterator

import onnx

from qcompiler.errors import ModelError
from qcompiler.load.contents import all_graphs, all_nodes

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def check_printable(where: str, model: onnx.ModelProto) -> None:
    """Look at every name of the file; they come back in messages, reports and file names.

    Raises:
        ModelError: a control character in a name, which no exporter writes and a damaged file has.
    """
    for kind, name in _names(model):
        if _CONTROL.search(name):
            raise ModelError(
                f"{where}: the {kind} {name!r} has control characters; the file is damaged: export it again"
            )


def _names(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    for entry in model.opset_import:
        yield "domain", entry.domain
    for graph in all_graphs(model):
        for value in (*graph.input, *graph.output, *graph.initializer):
            yield "value name", value.name
    for node in all_nodes(model):
        yield "node name", node.name
        yield "operator", node.op_type
        yield "domain", node.domain
        for attribute in node.attribute:
            yield "attribute name", attribute.name
        for name in (*node.input, *node.output):
            yield "value name", name
    for function in model.functions:
        for name in (function.name, function.domain, *function.input, *function.output, *function.attribute):
            yield "name in a function", name
