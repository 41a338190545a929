"""Seeing through the Casts between what a caller gives and takes and what a graph computes in.

    past float16 (input) -> Cast -> attention -> Cast -> present float16 (output)

:mod:`qcompiler.prepare.widen` puts them there.  A pass that changes the public type itself takes them away.
"""

from __future__ import annotations

import onnx_ir as ir


def public_input(value: ir.Value) -> ir.Value:
    """The graph input that ``value`` is a Cast of, where nothing else reads either; else ``value``."""
    cast = value.producer()
    if cast is None or not _is_cast(cast) or len(value.uses()) != 1 or value.is_graph_output():
        return value
    source = cast.inputs[0]
    return source if source is not None and source.is_graph_input() and len(source.uses()) == 1 else value


def public_output(value: ir.Value) -> ir.Value:
    """The graph output that is a Cast of ``value``, where nothing else reads ``value``; else ``value``."""
    readers = list(value.uses())
    if len(readers) != 1 or value.is_graph_output() or not _is_cast(readers[0].node):
        return value
    output = readers[0].node.outputs[0]
    return output if output.is_graph_output() and not output.uses() else value


def make_public_input(value: ir.Value) -> ir.Value:
    """Let the reader of ``value`` read the graph input itself; returns that input, in its own type."""
    source = public_input(value)
    if source is not value:
        cast = value.producer()
        assert cast is not None and cast.graph is not None  # public_input looked  # noqa: PT018
        value.replace_all_uses_with(source)
        cast.graph.remove(cast, safe=True)
    return source


def make_public_output(value: ir.Value) -> ir.Value:
    """Make ``value`` the graph output itself, under the output's name and shape, in its own type."""
    output = public_output(value)
    if output is not value:
        cast, name = output.producer(), output.name
        assert cast is not None and cast.graph is not None  # public_output looked  # noqa: PT018
        output.name = f"{name}_cast"
        output.replace_all_uses_with(value, replace_graph_outputs=True)
        cast.graph.remove(cast, safe=True)
        value.name, value.shape = name, output.shape
    return value


def _is_cast(node: ir.Node) -> bool:
    return node.op_type == "Cast" and node.domain in ("", "ai.onnx")
