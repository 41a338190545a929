"""Whether a decoder's caches can be buffers with room behind the past, into which new keys and values are written.

The length of the past is then no shape but what the attention mask says; a graph that looks at it elsewhere cannot.
"""

from __future__ import annotations

import onnx_ir as ir

_OPERATOR, _DOMAIN = "GroupQueryAttention", "com.microsoft"
_PASTS, _PRESENTS = (3, 4), (1, 2)


def presents(graph: ir.Graph) -> list[ir.Value]:
    """Outputs that may be the memory of an input: all that attention appends to, or none at all."""
    nodes = [node for node in graph if (node.domain, node.op_type) == (_DOMAIN, _OPERATOR)]
    if not nodes or not all(_fits(node) for node in nodes):
        return []
    return [node.outputs[index] for node in nodes for index in _PRESENTS]


def _fits(node: ir.Node) -> bool:
    """Whether its past is an input, its present an output, and nothing else knows of either."""
    if len(node.inputs) <= _PASTS[-1] or len(node.outputs) <= _PRESENTS[-1]:
        return False
    pasts = [node.inputs[index] for index in _PASTS]
    given = [node.outputs[index] for index in _PRESENTS]
    return all(
        past is not None and past.is_graph_input() and len(past.uses()) == 1 for past in pasts
    ) and all(value.is_graph_output() and not value.uses() for value in given)
