"""Names stay unique while nodes are added.

What is added is named after what it stands beside (``x`` makes ``x_scale``).  The user's model may hold that name
already, and two weights may share the value they are named after.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import onnx_ir as ir

Named = TypeVar("Named", ir.Value, ir.Node)


@contextmanager
def names_kept(model: ir.Model) -> Iterator[None]:
    """Let the body add to ``model`` without regard for names that are taken, and then rename what was added.

    Names of inputs, outputs and of everything that kept its name since before stay; values are unique over all
    subgraphs, as ONNX demands, and so are nodes.
    """
    values = {value: value.name for value in _values(model)}
    nodes = {node: node.name for node in model.graph.all_nodes()}
    yield
    public = {*model.graph.inputs, *model.graph.outputs}
    after = _values(model)
    _make_unique(after, [value in public or values.get(value) == value.name for value in after])
    all_nodes = list(model.graph.all_nodes())
    _make_unique(all_nodes, [nodes.get(node) == node.name for node in all_nodes])


def _values(model: ir.Model) -> list[ir.Value]:
    """Every value that the model names, once."""
    found: dict[ir.Value, None] = {}
    for graph in model.graphs():
        found.update(dict.fromkeys((*graph.inputs, *graph.initializers.values())))
        found.update(dict.fromkeys(value for node in graph for value in node.outputs if value.name != ""))
    return list(found)


def _make_unique(items: Sequence[Named], kept: Sequence[bool]) -> None:
    taken = {item.name for item, stays in zip(items, kept, strict=True) if stays}
    for item, stays in zip(items, kept, strict=True):
        if stays or not item.name:
            continue
        name, count = item.name, 1
        while name in taken:
            name, count = f"{item.name}_{count}", count + 1
        if name != item.name:
            item.name = name
        taken.add(name)
