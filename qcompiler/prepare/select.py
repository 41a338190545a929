"""Which nodes a user means by ``--include`` and ``--exclude``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

import onnx_ir as ir

from qcompiler.errors import OptionError, suggest
from qcompiler.graph.qdq import ORIGIN
from qcompiler.prepare.batchnorm import ABSORBED

OPERATOR_PREFIX = "op:"


def select_nodes(
    model: ir.Model, include: Sequence[str], exclude: Sequence[str], *, owner: str = ""
) -> frozenset[str]:
    """Return the names of the nodes that ``include`` leaves in and ``exclude`` does not take out.

    A glob (``*``, ``?``, ``[...]``; case counts) is matched against the name a node has in the user's file, in
    subgraphs too, or that of a node it absorbed; ``op:Conv`` selects by operator.  A name that contains a
    bracket matches itself as well.

    Args:
        model: a prepared model.
        include: globs of which a node must match one; empty stands for all nodes.
        exclude: globs of which it must match none.
        owner: whose globs these are, for messages: "" for the user's of the command line.

    Raises:
        OptionError: a glob that matches no node; suggests the nearest name.
    """
    nodes = list(model.graph.all_nodes())
    words = (f"{owner}include", f"{owner}exclude") if owner else ("--include", "--exclude")
    included = _matched(words[0], include, nodes) if include else {str(node.name) for node in nodes}
    return frozenset(included - _matched(words[1], exclude, nodes))


def _matched(option: str, globs: Iterable[str], nodes: Sequence[ir.Node]) -> set[str]:
    names: set[str] = set()
    for glob in globs:
        found = {str(node.name) for node in nodes if _matches(node, glob)}
        if not found:
            raise OptionError(f"{option} {glob!r} matches no node.{_nearest(glob, nodes)}")
        names |= found
    return names


def _matches(node: ir.Node, glob: str) -> bool:
    if glob.startswith(OPERATOR_PREFIX):
        return fnmatchcase(node.op_type, glob.removeprefix(OPERATOR_PREFIX))
    names = [_origin(node), *filter(None, node.metadata_props.get(ABSORBED, "").split("\n"))]
    return any(glob == name or fnmatchcase(name, glob) for name in names)


def _origin(node: ir.Node) -> str:
    return node.metadata_props.get(ORIGIN, str(node.name))


def _nearest(glob: str, nodes: Iterable[ir.Node]) -> str:
    if glob.startswith(OPERATOR_PREFIX):
        return suggest(glob, {OPERATOR_PREFIX + node.op_type for node in nodes})
    return suggest(glob, {_origin(node) for node in nodes})
