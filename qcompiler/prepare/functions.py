"""Model-local functions are inlined, so that weights and operators in them are reached."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from qcompiler.errors import UnsupportedError
from qcompiler.graph.qdq import ORIGIN
from qcompiler.prepare.naming import name_nodes


def inline_functions(model: ir.Model) -> int:
    """Inline every call in place and return how many functions there were calls of.

    A node from a function's body is named ``{call}/{node}``, which is its origin too.

    Raises:
        UnsupportedError: functions that call each other in a circle, or that need another opset than the model.
    """
    if not model.functions:
        return 0
    calls = {str(node.name) for node in model.graph.all_nodes() if node.op_identifier() in model.functions}
    try:
        InlinePass()(model)
    except (ValueError, ir.passes.PassError) as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UnsupportedError(
            f"a model-local function cannot be inlined ({reason}); export without functions"
        ) from error
    for node in model.graph.all_nodes():
        call = node.metadata_props.get(ORIGIN)
        if call in calls and node.name != call:
            node.name = f"{call}/{node.name}"
            del node.metadata_props[ORIGIN]
    model.functions.clear()
    name_nodes(model)
    return len(calls)
