"""Images are computed with channels last: convolutions, poolings, and what stands between them.

Every value of the graph that holds images gets a twin in NHWC, made by the twins of what made it.  A twin of a
dequantized value is its codes.  Twins begin where a convolution or pooling reads a value that has none, and values are
brought back for nodes that have no twin.  The graph that was there stays as it is, and dies where nothing reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.backends.base import Lowering
from qcompiler.backends.tvm.importing.kernels import DOMAIN
from qcompiler.backends.tvm.kernels.conv_epilogue import Codes
from qcompiler.backends.tvm.layout_match import IMAGE_RANK, codes_made_by, codes_read_by, image_sizes
from qcompiler.graph.qdq import ORIGIN, add_initializer

LAST = (0, 2, 3, 1)
"""Axes of ``[N, C, H, W]`` as ``[N, H, W, C]`` has them."""

Array = npt.NDArray[np.generic]
Attributes = dict[str, int | str | Sequence[int]]


@dataclass(frozen=True)
class Twin:
    """A value in NHWC.

    Attributes:
        value: uint8 codes or floats.
        codes: how the codes stand for the float value that this is the twin of; None where it is the value itself.
    """

    value: ir.Value
    codes: Codes | None = None


@dataclass
class Twins:
    """The twins of a graph so far.

    Attributes:
        found: by the value that they are twins of.
        covered: nodes that are computed among the twins.
        padded: codes with more channels, for a first convolution.
        floats: twins of codes that were dequantized.
        names: of their values.
    """

    graph: ir.Graph
    found: dict[ir.Value, Twin] = field(default_factory=dict)
    covered: set[ir.Node] = field(default_factory=set)
    padded: dict[ir.Value, Twin] = field(default_factory=dict)
    floats: dict[Twin, ir.Value] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)

    def of(self, value: ir.Value, *, channels: int = 0) -> Twin | None:
        """The twin of a value, made if it has none; None where its sizes are not known.

        Args:
            channels: that its codes must have at least; those added are 0.
        """
        if value in self.found and not channels:
            return self.found[value]
        if value in self.padded and channels:
            return self.padded[value]
        sizes = image_sizes(value)
        if sizes is None or value.dtype not in (ir.DataType.FLOAT, ir.DataType.UINT8):
            return None
        twin = self._of_dequantized(value, channels) or Twin(self._entered(value, sizes, None, channels))
        (self.padded if channels else self.found)[value] = twin
        return twin

    def _of_dequantized(self, value: ir.Value, channels: int) -> Twin | None:
        """Codes of a dequantized value, quantized on the way in."""
        node = value.producer()
        codes = None if node is None else codes_read_by(node)
        source = node.inputs[0] if node is not None else None
        if codes is None or source is None:
            return None
        if source in self.found and not channels:
            return Twin(self.found[source].value, codes)
        sizes, quantize = image_sizes(source) or image_sizes(value), source.producer()
        if sizes is None:
            return None
        if quantize is not None and codes_made_by(quantize) == codes and quantize.inputs[0] is not None:
            return Twin(self._entered(quantize.inputs[0], sizes, codes, channels), codes)
        return Twin(self._entered(source, sizes, None, channels), codes)

    def _entered(
        self, value: ir.Value, sizes: tuple[int, int, int], codes: Codes | None, channels: int
    ) -> ir.Value:
        """A value of NCHW in NHWC, quantized where codes are given."""
        source = "uint8" if value.dtype == ir.DataType.UINT8 else "float32"
        result = source if codes is None else "uint8"
        inputs = [value, *self.constants(f"{value.name}_last", _numbers(codes))]
        attributes: Attributes = {"last": 1, "source": source, "result": result, "padded": channels}
        count, height, width = sizes
        shape = [batch(Twin(value)), height, width, max(count, channels)]
        producer = value.producer()
        node = self.make("LayoutChange", inputs, attributes, shape, result, name=f"{value.name}_to_nhwc")
        if producer is None:
            self.graph.insert_before(self.graph[0], node)
        else:
            self.graph.insert_after(producer, node)
        return node.outputs[0]

    def constants(self, name: str, arrays: Mapping[str, Array]) -> list[ir.Value]:
        """Register arrays."""
        return [
            add_initializer(self.graph, f"{name}_{suffix}", np.ascontiguousarray(array))
            for suffix, array in arrays.items()
        ]

    def make(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Attributes,
        shape: Sequence[object],
        dtype: str,
        *,
        name: str,
        domain: str = DOMAIN,
    ) -> ir.Node:
        """A node that is not in the graph yet."""
        node = ir.node(op_type, list(inputs), dict(attributes), domain=domain, name=name)
        node.metadata_props[ORIGIN] = name
        output = node.outputs[0]
        output.name = self._unused(f"{name or op_type}_result")
        output.shape = ir.Shape(list(shape))  # type: ignore[arg-type]
        kind = ir.DataType.UINT8 if dtype == "uint8" else ir.DataType.FLOAT
        output.type = ir.TensorType(kind)
        return node

    def _unused(self, name: str) -> str:
        """A name that no twin has: nodes may have none of their own, and be read in two forms."""
        unique, count = name, 1
        while unique in self.names:
            unique, count = f"{name}_{count}", count + 1
        self.names.add(unique)
        return unique

    def cover(self, first: ir.Node, last: ir.Node, twin: Twin, new: ir.Node | None) -> None:
        """Say that ``new`` computes everything from ``first`` to ``last``, and put it there."""
        if new is not None:
            self.graph.insert_after(last, new)
        self.found[last.outputs[0]] = twin
        self.covered |= _between(first, last)

    def as_floats(self, twin: Twin, after: ir.Node) -> ir.Value:
        """The float value that a twin stands for, computed behind a node."""
        if twin.codes is None:
            return twin.value
        if twin in self.floats:
            return self.floats[twin]
        name = f"{twin.value.name}_dequantized"
        constants: dict[str, Array] = {
            "scale": np.array(twin.codes.scale, np.float32),
            "zero": np.array(twin.codes.zero_point, np.uint8),
        }
        inputs = [twin.value, *self.constants(name, constants)]
        node = self.make(
            "DequantizeLinear", inputs, {}, list(twin.value.shape or []), "float32", name=name, domain=""
        )
        self.graph.insert_before(after, node)
        self.floats[twin] = node.outputs[0]
        return node.outputs[0]

    def bring_back(self) -> None:
        """Give every node without a twin the values that it reads."""
        for value, twin in self.found.items():
            readers = [use for use in value.uses() if use.node not in self.covered]
            if not readers and not value.is_graph_output():
                continue
            producer = value.producer()
            if producer is None or producer not in self.covered:
                continue
            self._bring_back(value, twin)

    def _bring_back(self, value: ir.Value, twin: Twin) -> None:
        source = "uint8" if twin.value.dtype == ir.DataType.UINT8 else "float32"
        result = "float32" if twin.codes is not None else source
        inputs = [twin.value, *self.constants(f"{value.name}_first", _numbers(twin.codes))]
        attributes: Attributes = {"last": 0, "source": source, "result": result, "padded": 0}
        made = twin.value.shape
        shape = [made[0], made[3], made[1], made[2]] if made is not None else []
        node = self.make("LayoutChange", inputs, attributes, shape, result, name=f"{value.name}_to_nchw")
        before = twin.value.producer()
        assert before is not None
        self.graph.insert_after(before, node)
        output, name = node.outputs[0], value.name
        if value.is_graph_output():
            value.replace_all_uses_with(output, replace_graph_outputs=True)
            value.name, output.name = f"{name}_nchw", name
            return
        for use in list(value.uses()):
            if use.node not in self.covered and use.node is not node:
                use.node.replace_input_with(use.idx, output)


def _between(first: ir.Node, last: ir.Node) -> set[ir.Node]:
    """Nodes on the way from one to another, which only have one reader each."""
    found, node = {first}, first
    while node is not last:
        node = next(iter(node.outputs[0].uses())).node
        found.add(node)
    return found


def batch(twin: Twin) -> object:
    """How many images."""
    assert twin.value.shape is not None
    return twin.value.shape[0]


def turned(value: ir.Value, images: object) -> list[object]:
    """Shape of a value's twin of so many images: shape inference loses them at some operators."""
    return [] if value.shape is None else [images, *(value.shape[axis] for axis in LAST[1:])]


def _numbers(codes: Codes | None) -> dict[str, Array]:
    """``scale`` and ``zero`` as kernels take them, or nothing."""
    if codes is None:
        return {}
    return {"scale": np.array([codes.scale], np.float32), "zero": np.array([codes.zero_point], np.int32)}


Imports = dict[str, int]
"""Versions of the operators, by domain."""

Rule = Callable[[Twins, ir.Node, Imports], str]
"""Makes the twin of a node; returns what it became, or "" where there is none."""


_MOVES = frozenset({"DequantizeLinear", "Slice", "Pad"})


def move_first(twins: Twins, value: ir.Value, imports: Imports) -> bool:
    """Make the twin of what is only moved from another twin, before its turn; say whether there is one."""
    from qcompiler.backends.tvm.layout_rules import RULES

    if value in twins.found:
        return True
    node = value.producer()
    if node is None or node.domain or node.op_type not in _MOVES or node.inputs[0] is None:
        return False
    return move_first(twins, node.inputs[0], imports) and bool(RULES[node.op_type](twins, node, imports))


def lower_convolutions(model: ir.Model) -> list[Lowering]:
    """Rewrite ``model`` in place; say what every convolution and pooling became."""
    from qcompiler.backends.tvm.layout_rules import RULES

    twins, imports, lowered = Twins(model.graph), dict(model.graph.opset_imports), []
    for node in list(model.graph):
        rule = RULES.get(node.op_type)
        if rule is None or node.domain or node in twins.covered:
            continue
        became = rule(twins, node, imports)
        if became.startswith(("Conv", "Depthwise", "Pool")):
            lowered.append(Lowering(str(node.name), became))
    twins.bring_back()
    return lowered


def is_image(value: ir.Value | None) -> bool:
    """Whether a value has four axes."""
    return value is not None and value.shape is not None and len(value.shape) == IMAGE_RANK
