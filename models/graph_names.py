"""Names a user can read: nodes and weights after the torch module they come from, axes after their meaning.

The torch exporter calls nodes ``node_linear_7``, transposed weights ``val_216`` and dimensions ``s72``. After
``tidy`` they are ``/model/layers.1/self_attn/k_proj/MatMul``, ``model.layers.1.self_attn.k_proj.weight`` and
``batch``, so that ``--exclude '/lm_head*'`` means what it says. The stack traces in the metadata, which hold
paths of the machine that exported, are dropped.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

import onnx_ir as ir

_SCOPES = "pkg.torch.onnx.name_scopes"


def tidy(model: ir.Model, axes: Mapping[str, Mapping[int, str]]) -> None:
    """Rename in place; names of graph inputs and outputs never change.

    Args:
        axes: for each graph input, the name of each dynamic axis.
    """
    name_axes(model.graph, axes)
    modules = {node: _module(node) for node in model.graph}
    name_weights(model.graph, modules)
    name_nodes(modules)
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()
    for value in model.graph.inputs:
        value.metadata_props.clear()
    for value in model.graph.initializers.values():
        value.metadata_props.clear()
        value.shape, value.type = None, None  # the tensor has both; a second copy goes stale in others' tools


def name_axes(graph: ir.Graph, axes: Mapping[str, Mapping[int, str]]) -> None:
    """Replace the exporter's symbols by names, in every shape of the graph, also inside expressions."""
    words: dict[str, str] = {}
    for value in graph.inputs:
        for axis, name in axes.get(value.name or "", {}).items():
            symbol = value.shape[axis] if value.shape is not None else None
            if isinstance(symbol, ir.SymbolicDim) and symbol.value is not None:
                words[symbol.value] = name
    for value in (*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)):
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(dim, words) for dim in value.shape])


def _renamed(dim: int | ir.SymbolicDim, words: Mapping[str, str]) -> int | str | None:
    if isinstance(dim, int):
        return dim
    if dim.value is None:
        return None
    return re.sub(r"[A-Za-z_]\w*", lambda match: words.get(match.group(), match.group()), dim.value)


def _module(node: ir.Node) -> str:
    """Dotted name of the torch module a node was traced from, ``""`` when it has none."""
    scopes = ast.literal_eval(node.metadata_props.get(_SCOPES, "[]"))
    modules = [scope for scope in scopes[:-1] if scope and not scope.startswith("_")]
    return str(modules[-1]) if modules else ""


def name_weights(graph: ir.Graph, modules: Mapping[ir.Node, str]) -> None:
    """Call an anonymous 2-D initializer of a linear layer ``<module>.weight``."""
    for value in list(graph.initializers.values()):
        users = {usage.node for usage in value.uses()}
        if (
            len(users) != 1
            or value.is_graph_output()
            or not re.fullmatch(r"(val|t|permute)_\d+", value.name or "")
        ):
            continue
        node = users.pop()
        name = f"{modules.get(node, '')}.weight"
        if node.op_type not in ("MatMul", "Gemm") or name == ".weight" or name in graph.initializers:
            continue
        if value.const_value is not None and value.const_value.shape.rank() == 2:
            value.const_value.name = name
            value.name = name


def name_nodes(modules: Mapping[ir.Node, str]) -> None:
    """``/model/layers.1/mlp/up_proj/MatMul``, with ``_1``, ``_2`` where a module has several of one op."""
    seen: dict[str, int] = {}
    for node, module in modules.items():
        base = f"/{_slashed(module)}{node.op_type}"
        count = seen.get(base, 0)
        seen[base] = count + 1
        node.name = f"{base}_{count}" if count else base


def _slashed(module: str) -> str:
    """``a.layers.0.b`` as ``a/layers.0/b/``: a number stays with the list it indexes."""
    return "".join(f"{part}/" for part in re.sub(r"\.(?!\d+(\.|$))", "/", module).split("/") if part)
