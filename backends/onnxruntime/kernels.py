"""Reading back from ONNX Runtime what it made of a model: the optimized graph, not the documentation."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from qcompiler.backends.base import NodeKernel, NodeKey
from qcompiler.backends.onnxruntime.session import open_file, session_options

INTEGER_KERNELS = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "GatherBlockQuantized",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "NhwcMaxPool",
        "QAttention",
        "QGemm",
        "QLinearAdd",
        "QLinearAveragePool",
        "QLinearConcat",
        "QLinearConv",
        "QLinearGlobalAveragePool",
        "QLinearLeakyRelu",
        "QLinearMatMul",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearSoftmax",
        "QLinearWhere",
    }
)
_LAYOUT_SUFFIX = re.compile(r"_token_\d+$")
"""What the runtime's layout transformer appends to the names of nodes that it makes anew."""

_CODE_TYPES = frozenset({ir.DataType.INT8, ir.DataType.UINT8})


@dataclass(frozen=True)
class OptimizedGraph:
    """The graph a session really runs."""

    model: ir.Model

    def unfused_dequantizers(self) -> set[str]:
        """Names of DequantizeLinear nodes of constants that are still there: each is paid at every run."""
        return {
            str(node.inputs[0].name)
            for node in self.model.graph.all_nodes()
            if node.op_type == "DequantizeLinear"
            and node.inputs[0] is not None
            and node.inputs[0].is_initializer()
        }

    def find(self, name: str, outputs: Sequence[str]) -> ir.Node | None:
        """The node that carries ``name``, alone or merged with others (``a+b``), or makes one of ``outputs``."""
        made = set(outputs) | {f"{output}_quantized" for output in outputs}
        by_output = None
        for node in self.model.graph.all_nodes():
            if name in _LAYOUT_SUFFIX.sub("", str(node.name)).split("+"):
                return node
            if by_output is None and any(output.name in made for output in node.outputs):
                by_output = node
        return by_output


def optimized_graph(path: Path) -> OptimizedGraph:
    """Open the model as deployed and read the graph that the runtime made of it, without its large constants.

    Kernels' packed copies of weights are no part of the graph, and are not made.  Weights in a file of their own stay
    there: the optimized graph refers to them as the model does, and none of their pages is read.
    """
    with tempfile.TemporaryDirectory(prefix="qcompiler-") as folder:
        target = Path(folder) / "optimized.onnx"
        options = session_options(threads=1, keep_int8=True)
        options.optimized_model_filepath = str(target)
        options.add_session_config_entry("session.disable_prepacking", "1")
        if not path.with_name(f"{path.name}.data").exists():
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_file_name", "optimized.data"
            )
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_min_size_in_bytes", "1024"
            )
        open_file(path, options)
        model = ir.load(target)
        for value in model.graph.initializers.values():
            if isinstance(value.const_value, ir.ExternalTensor):
                value.const_value = None  # the folder goes; only names and types are read
        return OptimizedGraph(model)


def read_kernels(path: Path, nodes: Iterable[NodeKey]) -> list[NodeKernel]:
    """Which kernel runs each node.

    Args:
        path: the compiled model.
        nodes: the nodes of the user's file to look up.
    """
    graph = optimized_graph(path)
    return [_kernel(graph, node) for node in nodes]


def _kernel(graph: OptimizedGraph, node: NodeKey) -> NodeKernel:
    found = graph.find(node.name, node.outputs)
    if found is None:
        return NodeKernel(node.name, "", integer=False, note=f"{node.op_type} was fused into a neighbour")
    branches = _branches(found)
    if branches:
        return NodeKernel(node.name, f"If({', '.join(branches)})", integer=True)
    integer = found.op_type in INTEGER_KERNELS or _moves_codes(found)
    return NodeKernel(node.name, found.op_type, integer)


def _branches(node: ir.Node) -> list[str]:
    """The integer kernels of an If, one for each branch; empty where a branch has none."""
    if node.op_type != "If":
        return []
    graphs = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    kernels = [
        next((inner.op_type for inner in graph.all_nodes() if inner.op_type in INTEGER_KERNELS), "")
        for graph in graphs
    ]
    return kernels if all(kernels) else []


def _moves_codes(node: ir.Node) -> bool:
    """Whether a node that computes nothing (Reshape, MaxPool, Gather) works on 8-bit codes."""
    first = node.inputs[0] if node.inputs else None
    return (
        first is not None and first.dtype in _CODE_TYPES and node.op_type not in ("DequantizeLinear", "Cast")
    )
