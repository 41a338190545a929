"""Whose time it is: which node of the user's file a kernel in a profile was run for.

1. A kernel with the node's own name (decorations of the runtime undone, ``a+b`` for merged nodes), or one named after
   a value that the node makes.
2. A float kernel named after the last of the nodes merged into it (Conv, Add, Relu): the node of the kernel's type.
3. Nodes that quantization put into the file (QuantizeLinear, DequantizeLinear, Cast, Mul and others that are none of
   the user's): the node that makes the value they stand behind, or, where that is a weight or a graph input, the
   nodes that read them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from qcompiler.backends.base import NodeKey
from qcompiler.graph.qdq import ORIGIN
from qcompiler.measure.profile import node_of_profile_name

_HELPERS = frozenset(
    {
        "Abs",
        "Cast",
        "DequantizeLinear",
        "Div",
        "DynamicQuantizeLinear",
        "Max",
        "Mul",
        "QuantizeLinear",
        "ReduceMax",
        "Transpose",
    }
)
_LONGEST_CHAIN = 8
"""Nodes that quantization puts behind one another."""

_LONGEST_FUSION = 3
"""Nodes that the runtime merges into one behind it: Conv, BatchNormalization, Add, Relu."""


@dataclass(frozen=True)
class Attribution:
    """Finds owners of profiled kernels in one file.

    Attributes:
        keys: names of the quantized nodes.
        nodes: nodes of the file by name.
        makers: name of the node of the user's file that makes a value.
    """

    keys: frozenset[str]
    nodes: Mapping[str, ir.Node]
    makers: Mapping[str, str]

    @classmethod
    def of_file(cls, path: Path, keys: Collection[NodeKey]) -> Attribution:
        """Read the graph of ``path``; its weights are not read."""
        nodes = {str(node.name): node for node in ir.load(path).graph.all_nodes() if node.name}
        makers = {str(value.name): name for name, node in nodes.items() for value in node.outputs}
        makers |= {output: key.name for key in keys for output in key.outputs}
        return cls(frozenset(key.name for key in keys), nodes, makers)

    def owners(self, profile_name: str, op_type: str) -> list[str]:
        """Names of the quantized nodes that a kernel was run for; empty where it was for none of them.

        Args:
            profile_name: as in the profile.
            op_type: of the kernel.
        """
        direct = self._named(profile_name)
        if direct:
            return direct
        found = node_of_profile_name(profile_name, self.nodes.keys(), self.makers)
        if found is None:
            return self._named(self.makers.get(_value_of(profile_name), ""))
        node = self.nodes.get(found)
        if node is None:
            return self._named(found)
        made_for = self._named(str(node.metadata_props.get(ORIGIN, "")))
        if made_for:
            return made_for
        if node.op_type not in _HELPERS:
            return self._named(found) or self._fused_into(node, op_type)
        return self._behind(node) or self._before(node)

    def _named(self, name: str) -> list[str]:
        return [part for part in name.split("+") if part in self.keys]

    def _fused_into(self, last: ir.Node, op_type: str) -> list[str]:
        """The quantized node of the kernel's own type a few steps before the one that the kernel is named after."""
        pending = [last]
        for _ in range(_LONGEST_FUSION if op_type != last.op_type else 0):
            sources = [source for node in pending for source in node.inputs if source is not None]
            pending = [maker for source in sources if (maker := source.producer()) is not None]
            for node in pending:
                if node.op_type == op_type and self._named(str(node.name)):
                    return self._named(str(node.name))
        return []

    def _behind(self, helper: ir.Node) -> list[str]:
        """The node that makes what a chain of helpers starts from."""
        node: ir.Node | None = helper
        for _ in range(_LONGEST_CHAIN):
            source = node.inputs[0] if node is not None and node.inputs else None
            node = source.producer() if source is not None else None
            if node is None:
                return []
            owners = self._named(str(node.name))
            if owners or node.op_type not in _HELPERS:
                return owners
        return []

    def _before(self, helper: ir.Node) -> list[str]:
        """The nodes that read what a chain of helpers ends in."""
        pending = [(helper, 0)]
        owners: dict[str, None] = {}
        while pending:
            node, depth = pending.pop()
            for reader in (use.node for output in node.outputs for use in output.uses()):
                named = self._named(str(reader.name))
                owners |= dict.fromkeys(named)
                if not named and reader.op_type in _HELPERS and depth < _LONGEST_CHAIN:
                    pending.append((reader, depth + 1))
        return list(owners)


def _value_of(profile_name: str) -> str:
    for suffix in ("_QuantizeLinear", "_DequantizeLinear"):
        if profile_name.endswith(suffix):
            return profile_name.removesuffix(suffix)
    return profile_name
