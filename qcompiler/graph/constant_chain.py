"""A few nodes that compute a value from constants, put first in a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.qdq import add_initializer
from qcompiler.tensors import kept


class ConstantChain:
    """Collects nodes and their constants under the names ``prefix_*``; :meth:`insert` puts them into the graph."""

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self._graph, self._prefix = graph, prefix
        self._nodes: list[ir.Node] = []

    def array(self, suffix: str, array: npt.NDArray[np.generic]) -> ir.Value:
        """An initializer from an array; 0-D stays 0-D."""
        return add_initializer(self._graph, f"{self._prefix}_{suffix}", array)

    def tensor(self, suffix: str, tensor: ir.TensorProtocol) -> ir.Value:
        """An initializer from a tensor, packed types included."""
        value = self.array(suffix, np.zeros(0, np.uint8))
        tensor.name = value.name
        value.const_value, value.type = kept(tensor), ir.TensorType(tensor.dtype)
        value.shape = ir.Shape(tensor.shape.numpy())
        return value

    def node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        attributes: Mapping[str, int | str],
        suffix: str,
        shape: Sequence[int] | None = None,
        *,
        domain: str = "",
    ) -> ir.Value:
        """The float32 output of one more node; its shape where it is given."""
        node = ir.node(
            op_type, inputs, dict(attributes), domain=domain, name=f"{self._prefix}_{suffix}_{op_type}"
        )
        output = node.outputs[0]
        output.name, output.type = f"{self._prefix}_{suffix}", ir.TensorType(ir.DataType.FLOAT)
        output.shape = None if shape is None else ir.Shape(list(shape))
        self._nodes.append(node)
        return output

    def insert(self) -> None:
        """Put the nodes first in the graph, in the order in which they were made."""
        if len(self._graph):
            self._graph.insert_before(self._graph[0], self._nodes)
        else:
            self._graph.extend(self._nodes)
        self._nodes = []
