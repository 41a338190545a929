"""Which bytes of a model file belong to which node of the user's file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.diagnosis.match import base_names
from qcompiler.graph.qdq import ORIGIN
from qcompiler.tensors import stored_bytes

_LONGEST_CHAIN = 24
"""Nodes between a constant and the node of the user's file that it is for: Cast, DequantizeLinear, Transpose; codes of
3 bits that are put together at load have a dozen."""


@dataclass(frozen=True)
class StoredTensor:
    """One constant.

    Attributes:
        owners: nodes of the user's file that read it, in graph order; empty where none was found.
        dtype: as stored, in lower case.
        rank: number of dimensions.
    """

    name: str
    owners: tuple[str, ...]
    dtype: str
    rank: int
    elements: int
    size_bytes: int


def stored_tensors(
    model: ir.Model, places: Mapping[str, int], floats: Sequence[StoredTensor] = ()
) -> list[StoredTensor]:
    """All constants of a model, with the nodes that they are for.

    Args:
        model: the float or the deployed one; weights are not read.
        places: names of the user's nodes, and where they stand in the graph.
        floats: of the float model; codes and scales that are called after a weight belong to its nodes, wherever
            they are read (``w_scale_of_rows``).
    """
    weights = {item.name: set(item.owners) for item in floats if item.rank > 1}
    return [
        StoredTensor(
            str(value.name),
            tuple(sorted(_called_after(value, weights) or _owners(value, places), key=places.__getitem__)),
            type_name(tensor.dtype),
            len(tensor.shape),
            tensor.size,
            stored_bytes(tensor),
        )
        for value, tensor in _constants(model)
    ]


def type_name(dtype: ir.DataType) -> str:
    """As NumPy says it: ``float32``, ``int8``."""
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(dtype.name, dtype.name.lower())


def _constants(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value, value.const_value
    for node in model.graph.all_nodes():
        attribute = node.attributes.get("value") if node.op_type == "Constant" else None
        if attribute is not None and attribute.type == ir.AttributeType.TENSOR:
            yield node.outputs[0], attribute.as_tensor()


def _called_after(value: ir.Value, weights: Mapping[str, set[str]]) -> set[str]:
    """The nodes of the weight with the longest name that a constant's name goes on from."""
    name = str(value.name)
    while "_" in name:
        name = name.rpartition("_")[0]
        if name in weights:
            return weights[name]
    return set()


def _owners(value: ir.Value, names: Collection[str]) -> set[str]:
    """The nearest nodes behind a constant that are the user's."""
    pending = [value]
    for _ in range(_LONGEST_CHAIN):
        readers = [use.node for item in pending for use in item.uses()]
        found = {name for node in readers for name in _named(node, names)}
        if found or not readers:
            return found
        pending = [output for node in readers for output in node.outputs]
    return set()


def _named(node: ir.Node, names: Collection[str]) -> list[str]:
    """The user's nodes that one of a compiled model is, or was made for; ``a+b`` is two merged into one."""
    candidates = [*str(node.name).split("+"), str(node.metadata_props.get(ORIGIN, ""))]
    return [name for name in candidates if name in names] or [
        name for name in plain_names(str(node.name)) if name in names
    ]


def plain_names(name: str) -> list[str]:
    """What the name of a node may have been before another quantizer changed it."""
    return base_names(name.removesuffix("_quant"))
