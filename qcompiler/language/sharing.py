"""Whether a graph may keep its cache in place: past and present in one buffer of the full length.

A compiled model says so in its index.

GroupQueryAttention appends to the buffer in place when its past input and its present output are the same memory,
and takes the number of tokens from ``seqlens_k`` instead of from the buffer's shape. A graph in which anything else
reads the past would take its length from a shape that is then the capacity, and be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qcompiler.language.signature import CacheSlot
from qcompiler.package.deployed import is_deployed

_OPERATOR, _DOMAIN = "GroupQueryAttention", "com.microsoft"
_PAST_INPUTS, _PRESENT_OUTPUTS = (3, 4), (1, 2)


def shares_buffer(model: Path, slots: Sequence[CacheSlot]) -> bool:
    """Whether every cache input goes into GroupQueryAttention only, which gives its output."""
    if is_deployed(model):
        from qcompiler.backends.tvm.loader import index_path, read_index

        written = read_index(index_path(model)).get("in_place", [])
        return bool(slots) and {slot.present for slot in slots} == set(written)
    import onnx_ir as ir

    graph = ir.load(model).graph
    inputs = {value.name: value for value in graph.inputs}
    outputs = {value.name: value for value in graph.outputs}
    return bool(slots) and all(_in_place(inputs[slot.past], outputs[slot.present]) for slot in slots)


def _in_place(past: object, present: object) -> bool:
    import onnx_ir as ir

    assert isinstance(past, ir.Value) and isinstance(present, ir.Value)  # noqa: PT018
    node, uses = present.producer(), tuple(past.uses())
    return (
        node is not None
        and (node.domain, node.op_type) == (_DOMAIN, _OPERATOR)
        and len(uses) == 1
        and uses[0].node is node
        and uses[0].idx in _PAST_INPUTS
        and present.index() in _PRESENT_OUTPUTS
        and not present.uses()
    )
