"""Target ``onnx``: the dialect as it is, with standard operators only.

What runs it decides how fast it is.  Model-local functions are inlined, so that a runtime needs to know nothing but
the standard; the checks run it on ONNX Runtime without graph optimization, node by node as written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from qcompiler.backends.base import (
    ActivationFormat,
    LegalizeReport,
    NodeKernel,
    NodeKey,
    Session,
    Support,
    Target,
    WeightFormat,
)
from qcompiler.graph.low_bit import low_bit_nodes
from qcompiler.graph.narrow_codes import store_narrow
from qcompiler.graph.weighted import is_constant, weight_refusal
from qcompiler.pipeline.options import option
from qcompiler.prepare.clean import remove_unused

_STATIC = Support(static=True, dynamic=True, weight_only=True)
_CONVOLUTION = Support(static=True, weight_only=True, output="required")
_FOLLOWS = Support(static=True, follows=True, output="required")
_MOVES = Support(static=True, follows=True, same_scale=True, output="required")

SUPPORT: dict[str, Support] = {
    "MatMul": _STATIC,
    "Gemm": _STATIC,
    "Conv": _CONVOLUTION,
    "ConvTranspose": _CONVOLUTION,
    **dict.fromkeys(("Gather", "LSTM", "GRU"), Support(weight_only=True)),
    **dict.fromkeys(("Add", "AveragePool", "GlobalAveragePool"), _FOLLOWS),
    **dict.fromkeys(("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice"), _MOVES),
}


@dataclass(frozen=True)
class Onnx(Target):
    """Standard operators only: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear."""

    name: ClassVar[str] = "onnx"
    description: ClassVar[str] = "portable: standard ONNX operators with QDQ, for any runtime"

    reduce_range: bool = option(False, "7-bit weights, for runtimes whose 8-bit products saturate (AVX2)")

    def available(self) -> str | None:
        return None

    @property
    def activation(self) -> ActivationFormat:
        return ActivationFormat()

    @property
    def weight(self) -> WeightFormat:
        return WeightFormat(bits=7 if self.reduce_range else 8)

    @property
    def untimed(self) -> str:
        return "what runs a portable model decides how fast it is"

    @property
    def widens_codes(self) -> bool:
        return True

    @property
    def stores_tables(self) -> bool:
        return True

    @property
    def two_bit_types(self) -> bool:
        return True

    def support(self, node: ir.Node) -> Support:
        if node.domain not in ("", "ai.onnx"):
            return Support(reason=f"{node.domain}.{node.op_type} is not a standard operator")
        if reason := weight_refusal(node):
            return Support(reason=reason)
        return SUPPORT.get(node.op_type, Support(reason="no quantized form in common runtimes"))

    def legalize(self, model: ir.Model) -> LegalizeReport:
        """Store scales in half where exact and inline model-local functions; the rest is standard already."""
        from qcompiler.backends.onnxruntime.half_scales import in_half

        for node in low_bit_nodes(model):
            for index, operand in enumerate(node.inputs):
                if operand is not None and is_constant(operand) and operand.dtype == ir.DataType.FLOAT:
                    node.replace_input_with(index, in_half(operand))
        InlinePass()(model)
        remove_unused(model)
        store_narrow(model)
        return LegalizeReport()

    def session(self, path: Path, *, threads: int = 1) -> Session:
        from qcompiler.backends.onnxruntime.session import open_file, session_options

        return open_file(path, session_options(threads=threads, optimize=False))

    def kernels(self, path: Path, nodes: Sequence[NodeKey]) -> list[NodeKernel]:
        """The standard operator of each node; which kernel runs it is the runtime's affair."""
        del path
        note = "standard QDQ: the kernel depends on the runtime"
        return [NodeKernel(node.name, node.op_type, integer=False, note=note) for node in nodes]
