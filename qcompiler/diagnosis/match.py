"""Which value of the quantized model is which value of the float model.

1. By name. Quantizers rename what they quantize: ``x`` may have become ``x_quantized``, ``x_QuantizeLinear_Input``,
   ``x_DequantizeLinear_Output``. All three values of a quantizer are tried, with and without such suffixes. Where the
   range of its codes replaced a Relu or Clip, it holds what that makes.
2. By structure, for what no name tells: a node whose inputs are matched makes the same value as the one node of the
   float model of the same type that reads the same values and constants of the same shape. Of several (queries, keys
   and values read one input) each gets the one whose weight is nearest to its own.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.diagnosis.quantizers import QUANTIZERS, Quantizer, code_values
from qcompiler.graph.weighted import array_of, is_constant

SUFFIXES = (
    *("_QuantizeLinear_Output", "_QuantizeLinear_Input", "_DequantizeLinear_Output", "_QuantizeLinear"),
    *("_output_quantized", "_quantized", "_dequantized", "_unquantized", "_float", "_exposed", "_codes"),
)
"""What quantizers put behind the name of a value; ``_float`` and ``_exposed`` come from lifting."""

CLIPS = ("Relu", "Clip")
"""Operators that a range of codes can stand for."""

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE, None)
_SAMPLE = 4096
_FEW = 64
_MOST_ROUNDS = 1000
Key = tuple[object, ...]


@dataclass(frozen=True)
class Matches:
    """Values of the two models that are the same.

    Attributes:
        pairs: name in the float model -> name in the quantized one, before its quantizer; graph inputs included.
        by_structure: names in the float model that were found so.
    """

    pairs: Mapping[str, str]
    by_structure: tuple[str, ...]

    def without(self, names: Collection[str]) -> Matches:
        """Those left when ``names`` are not taken for the same."""
        pairs = {name: lifted for name, lifted in self.pairs.items() if name not in names}
        return Matches(pairs, tuple(name for name in self.by_structure if name not in names))


def match(reference: ir.Model, lifted: ir.Model, found: list[Quantizer]) -> Matches:
    """Match values of the main graphs."""
    matcher = _Matcher(reference, lifted, found)
    matcher.by_name()
    named = set(matcher.pairs)
    for _ in range(_MOST_ROUNDS):
        if not matcher.by_structure():
            break
    structural = tuple(name for name in matcher.pairs if name not in named)
    return Matches(matcher.pairs, structural)


def base_names(name: str) -> list[str]:
    """A name, and what is left of it without the suffixes of quantizers."""
    found = [name]
    while True:
        suffix = next((item for item in SUFFIXES if found[-1].endswith(item)), "")
        if not suffix or found[-1] == suffix:
            return found
        found.append(found[-1].removesuffix(suffix))


class _Matcher:
    def __init__(self, reference: ir.Model, lifted: ir.Model, found: list[Quantizer]) -> None:
        self._reference, self._lifted, self._quantizers = reference, lifted, found
        self._floats = _float_outputs(reference)
        self._before = {value: item.before for item in found for value in item.behind}
        self.pairs: dict[str, str] = {}
        self._names: dict[str, str] = {}
        inputs = {str(value.name) for value in lifted.graph.inputs}
        for value in reference.graph.inputs:
            if value.name in inputs:
                self._put(str(value.name), str(value.name))

    def _put(self, reference: str, lifted: str) -> bool:
        if reference in self.pairs or lifted in self._names:
            return False
        self.pairs[reference], self._names[lifted] = lifted, reference
        return True

    def by_name(self) -> None:
        for item in self._quantizers:
            chain = [
                name
                for value in (item.before, *item.behind, item.codes)
                for name in base_names(str(value.name))
            ]
            known = next((name for name in chain if name in self._floats), None)
            if known is not None and item.before.producer() is not None:
                self._put(known, str(item.before.name))
        for item in self._quantizers:
            self._move_behind_clip(item)
        taken = {str(value.name) for item in self._quantizers for value in item.behind}
        left = [name for name in _float_outputs(self._lifted) if name not in taken]
        for name in left:
            if name in self._floats:
                self._put(name, name)
        for name in left:
            known = next((base for base in base_names(name) if base in self._floats), None)
            if known is not None:
                self._put(known, name)

    def _move_behind_clip(self, item: Quantizer) -> None:
        """What stands behind a quantizer that took over a Relu or Clip is what these make, whatever its name says."""
        name = self._names.get(str(item.before.name))
        uses = list(self._floats[name].uses()) if name in self._floats else []
        if (
            name is None
            or len(uses) != 1
            or uses[0].node.op_type not in CLIPS
            or self._floats[name].is_graph_output()
        ):
            return
        clipped = str(uses[0].node.outputs[0].name)
        still = {use.node.op_type for value in (item.before, *item.behind) for use in value.uses()}
        if clipped not in self.pairs and not still & set(CLIPS):
            del self.pairs[name], self._names[str(item.before.name)]
            self._put(clipped, str(item.before.name))

    def by_structure(self) -> bool:
        """One round; whether it found anything."""
        candidates: dict[Key, list[ir.Node]] = defaultdict(list)
        names = {name: name for name in self.pairs}
        for node in self._reference.graph:
            key = self._key(node, names) if node.outputs[0].name not in self.pairs else None
            if key is not None:
                candidates[key].append(node)
        wanted: dict[Key, list[ir.Node]] = defaultdict(list)
        for node in self._lifted.graph:
            key = self._key(node, self._names) if node.outputs[0].name not in self._names else None
            if key in candidates and key is not None:
                wanted[key].append(node)
        found = False
        for key, nodes in wanted.items():
            for node, other in _assigned(nodes, candidates[key]):
                found |= self._put(str(other.outputs[0].name), str(node.outputs[0].name))
        return found

    def _key(self, node: ir.Node, known: Mapping[str, str]) -> Key | None:
        """What a node does to which values, None where one of its inputs is not matched, or nothing but moved."""
        if node.op_type in (*QUANTIZERS, "DequantizeLinear") or not node.outputs or not node.inputs:
            return None
        moves = [node.attributes[name].value for name in ("axis", "perm") if name in node.attributes]
        parts: list[object] = [node.op_type, str(moves)]
        for value in node.inputs:
            source = self._before.get(value, value) if value is not None else None
            if source is None:
                parts.append("")
            elif is_constant(source):
                parts.append(_constant_key(source))
            elif source.name in known:
                parts.append(known[str(source.name)])
            else:
                return None
        return tuple(parts)


def _constant_key(value: ir.Value) -> Key:
    """Shapes and indices must be equal, weights of one shape."""
    assert value.const_value is not None
    shape = tuple(value.const_value.shape.numpy())
    whole = value.dtype in (ir.DataType.INT64, ir.DataType.INT32) and math.prod(shape) <= _FEW
    return (shape, array_of(value).tobytes()) if whole else (shape,)


def _float_outputs(model: ir.Model) -> dict[str, ir.Value]:
    codes = code_values(model)
    return {
        str(value.name): value
        for node in model.graph
        for value in node.outputs
        if value.name and value.dtype in _FLOATS and value not in codes
    }


def _assigned(nodes: list[ir.Node], others: list[ir.Node]) -> list[tuple[ir.Node, ir.Node]]:
    """Pairs of nodes that do the same to the same values; the nearest weights first."""
    if len(nodes) == len(others) == 1:
        return [(nodes[0], others[0])]
    scores = sorted(
        ((_likeness(node, other), -i, -j) for i, node in enumerate(nodes) for j, other in enumerate(others)),
        reverse=True,
    )
    pairs, left, right = [], set(range(len(nodes))), set(range(len(others)))
    for _, i, j in scores:
        if -i in left and -j in right:
            pairs.append((nodes[-i], others[-j]))
            left.discard(-i)
            right.discard(-j)
    return pairs


def _likeness(node: ir.Node, other: ir.Node) -> float:
    """Cosine of a sample of the constants that two nodes read; 0 where they read none."""
    total = 0.0
    for one, two in zip(node.inputs, other.inputs, strict=False):
        if one is not None and two is not None and is_constant(one) and is_constant(two):
            a, b = (array_of(value).reshape(-1)[:_SAMPLE].astype(np.float64) for value in (one, two))
            scale = float(np.sqrt((a @ a) * (b @ b)))
            total += float(a @ b) / scale if scale else 0.0
    return total
