"""Model-local functions of the dialect: what standard operators cannot say, with bodies that are standard."""

from __future__ import annotations

import onnx_ir as ir

DOMAIN = "qcompiler"


def define_function(model: ir.Model, name: str, body: str) -> None:
    """Define the function ``name`` in ``model`` where it is not defined yet.

    Args:
        model: its opset takes the place of OPSET in the body.
        name: of the function.
        body: ONNX text of the function, its header included.
    """
    key = (DOMAIN, name, "")
    model.graph.opset_imports.setdefault(DOMAIN, 1)
    if key in model.functions:
        return
    opset = model.graph.opset_imports[""]
    header = f'<ir_version: 10, opset_import: ["" : {opset}]> unused () => () {{ }}'
    parsed = ir.from_onnx_text(header + body.replace("OPSET", str(opset)))
    model.functions[key] = parsed.functions[key]
