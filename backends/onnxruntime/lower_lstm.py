"""LSTM layers whose weights and input are quantized in the dialect, lowered to ONNX Runtime's integer LSTM.

    x -> DynamicQuantizeLinear -> DequantizeLinear -> LSTM(., DequantizeLinear(W), DequantizeLinear(R), B, , h, c)

becomes ``com.microsoft.DynamicQuantizeLSTM(x, W', R', B, , h, c, , W_scale, W_zero_point, R_scale, R_zero_point)``.
The dialect has ``W [directions, 4H, I]`` and ``R [directions, 4H, H]`` with scales ``[4H]`` on axis 1 or 0-D; the
kernel wants them transposed, ``W' [directions, I, 4H]``, with scales ``[directions, 4H]`` or ``[directions]``.

The kernel quantizes x as DynamicQuantizeLinear does, over the whole sequence, so that this step is the same in both.
It also quantizes the hidden state at every step, which standard ONNX cannot say of an LSTM: that is rounding to 8 bits
of its largest magnitude, and all that the lowering adds (58 to 63 dB, where quantization costs 38 to 42 dB).

Measured with onnxruntime 1.31.1, one thread of AVX512-VNNI, one layer as wide as its input, scales per gate row,
float time / integer time (``python -m benchmarks.lstm``; docs/decisions/0004 has the machine and the rest):

| hidden | sequence 1, batch 1 / 8 | sequence 8 | sequence 64 |
|---|---|---|---|
| 64 | 0.95 / 1.12 | 1.17 / 1.51 | 1.48 / 1.67 |
| 128 | 1.33 / 1.63 | 1.68 / 2.40 | 1.99 / 2.15 |
| 256 | 2.03 / 2.48 | 2.56 / 2.79 | 2.96 / 2.87 |
| 512 | 2.85 / 3.56 | 3.46 / 4.23 | 3.43 / 3.64 |
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompiler.graph.qdq import add_initializer, graph_of
from qcompiler.graph.weighted import array_of, is_constant
from qcompiler.prepare.clean import remove_unused

MICROSOFT = "com.microsoft"

SMALLEST_HIDDEN = 128
"""Hidden size from which on the integer kernel was faster at every shape measured."""

_SEQUENCE_LENS, _PEEPHOLES = 4, 7
_ACTIVATIONS = ("sigmoid", "tanh", "tanh")


def lower_lstm(model: ir.Model) -> list[str]:
    """Rewrite every such LSTM in place, subgraphs included, and return the names of those rewritten."""
    layers = [node for node in model.graph.all_nodes() if node.op_type == "LSTM" and node.domain == ""]
    weights = _KernelWeights()
    lowered = [str(node.name) for node in layers if _lower(node, weights)]
    if lowered:
        model.opset_imports[MICROSOFT] = 1
        remove_unused(model)
    return lowered


def refusal(node: ir.Node) -> str:
    """Return why the kernel cannot, or shall not, run this LSTM; empty where it does."""
    if len(node.inputs) > _SEQUENCE_LENS and node.inputs[_SEQUENCE_LENS] is not None:
        return "DynamicQuantizeLSTM scales its input over the longest sequence only"
    if len(node.inputs) > _PEEPHOLES and node.inputs[_PEEPHOLES] is not None:
        return "an LSTM with peepholes has no measured integer form"
    for name in ("clip", "layout", "input_forget", "activation_alpha", "activation_beta"):
        if name in node.attributes and np.any(node.attributes[name].value):
            return f"an LSTM with {name} has no measured integer form"
    if "activations" in node.attributes:
        names = tuple(name.lower() for name in node.attributes["activations"].as_strings())
        if names != _ACTIVATIONS * (len(names) // 3):
            return f"an LSTM with activations {', '.join(names)} has no measured integer form"
    recurrent = node.inputs[2]
    hidden = recurrent.shape[2] if recurrent is not None and recurrent.shape is not None else None
    if not isinstance(hidden, int) or hidden < SMALLEST_HIDDEN:
        return f"hidden size {hidden}: integers gain nothing below {SMALLEST_HIDDEN}"
    if recurrent is None or recurrent.dtype != ir.DataType.FLOAT:
        return "the integer LSTM takes float32 only"
    return ""


@dataclass(frozen=True)
class _Weight:
    """Codes ``[directions, 4H, K]`` and their scale, ``[4H]`` or 0-D, as the dialect has them."""

    codes: ir.Value
    scale: ir.Value


@dataclass
class _KernelWeights:
    """Weights turned for the kernel, each once however many layers share it."""

    _made: dict[tuple[ir.Value, ir.Value], list[ir.Value]] = field(default_factory=dict)

    def turned(self, weight: _Weight) -> list[ir.Value]:
        """Codes ``[directions, K, 4H]``, scale and zero point ``[directions, 4H]`` or ``[directions]``."""
        key = (weight.codes, weight.scale)
        if key not in self._made:
            codes, scale = array_of(weight.codes), array_of(weight.scale)
            scales = np.tile(scale, (len(codes), 1) if scale.ndim else len(codes))
            graph, name = graph_of(weight.codes), weight.codes.name
            self._made[key] = [
                add_initializer(graph, f"{name}_turned", np.ascontiguousarray(codes.transpose(0, 2, 1))),
                add_initializer(graph, f"{name}_scales", scales),
                add_initializer(graph, f"{name}_zero_points", np.zeros(scales.shape, codes.dtype)),
            ]
        return self._made[key]


def _lower(node: ir.Node, weights: _KernelWeights) -> bool:
    source, graph = _source(node.inputs[0]), node.graph
    w, r = _weight(node.inputs[1]), _weight(node.inputs[2])
    if source is None or w is None or r is None or graph is None or refusal(node):
        return False
    (w_codes, *w_rest), (r_codes, *r_rest) = weights.turned(w), weights.turned(r)
    states = list(node.inputs[3:7])
    gap = [None] * (5 - len(states))  # up to P, the eighth input
    inputs = [source, w_codes, r_codes, *states, *gap, *w_rest, *r_rest]
    kept = {name: node.attributes[name] for name in ("hidden_size", "direction") if name in node.attributes}
    kernel = ir.Node(
        MICROSOFT,
        "DynamicQuantizeLSTM",
        inputs,
        list(kept.values()),
        num_outputs=len(node.outputs),
        name=node.name,
    )
    kernel.metadata_props.update(node.metadata_props)
    graph.insert_before(node, kernel)
    for old, new in zip(node.outputs, kernel.outputs, strict=True):
        new.name, new.shape, new.type = old.name, old.shape, old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True


def _source(value: ir.Value | None) -> ir.Value | None:
    """What DynamicQuantizeLinear and DequantizeLinear round, where ``value`` comes out of them."""
    dequantize = value.producer() if value is not None else None
    if dequantize is None or dequantize.op_type != "DequantizeLinear" or dequantize.inputs[0] is None:
        return None
    quantize = dequantize.inputs[0].producer()
    if quantize is None or quantize.op_type != "DynamicQuantizeLinear":
        return None
    return quantize.inputs[0] if tuple(dequantize.inputs) == tuple(quantize.outputs) else None


def _weight(value: ir.Value | None) -> _Weight | None:
    """Constant symmetric int8 codes of rank 3 with a float32 scale per gate row or per tensor."""
    node = value.producer() if value is not None else None
    if (
        node is None
        or node.op_type != "DequantizeLinear"
        or not all(is_constant(item) for item in node.inputs)
    ):
        return None
    codes, scale = node.inputs[0], node.inputs[1]
    if codes is None or scale is None or codes.dtype != ir.DataType.INT8 or scale.dtype != ir.DataType.FLOAT:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and np.any(array_of(node.inputs[2])):
        return None
    axis = node.attributes.get("axis")
    per_row = array_of(scale).ndim == 1 and (axis is None or axis.as_int() in (1, -2))
    fits = array_of(codes).ndim == 3 and (array_of(scale).ndim == 0 or per_row)
    return _Weight(codes, scale) if fits else None
