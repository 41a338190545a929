"""A node has the inputs, outputs and attributes that its operator's schema asks for."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from qcompiler.errors import ModelError, suggest

_Option = onnx.defs.OpSchema.FormalParameterOption


def check_node_schema(at: str, node: ir.Node, schema: onnx.defs.OpSchema) -> None:
    """Check ``node`` as ONNX Runtime will, so that every later stage may rely on it.

    Args:
        at: the words an error starts with; they name the node.
        schema: of the version of the operator that the model imports.

    Raises:
        ModelError: too many or too few inputs or outputs, an attribute that is unknown, of another type, or missing.
    """
    _check_count(at, "inputs", len(node.inputs), schema.min_input, schema.max_input)
    _check_count(at, "outputs", len(node.outputs), schema.min_output, schema.max_output)
    for parameter, value in zip(schema.inputs, node.inputs, strict=False):
        if parameter.option == _Option.Single and value is None:
            raise ModelError(f"{at}: its input {parameter.name!r} is missing; export the model again")
    for attribute in node.attributes.values():
        _check_attribute(at, attribute, schema)
    for name, declared in schema.attributes.items():
        if declared.required and name not in node.attributes:
            raise ModelError(f"{at}: its attribute {name!r} is missing; export the model again")
    if node.op_type == "Constant" and node.domain == "" and len(node.attributes) != 1:
        raise ModelError(f"{at}: holds {len(node.attributes)} values, not one; export the model again")


def _check_attribute(at: str, attribute: ir.Attr, schema: onnx.defs.OpSchema) -> None:
    declared = schema.attributes.get(attribute.name)
    if declared is None:
        known = suggest(attribute.name, schema.attributes)
        raise ModelError(f"{at}: has no attribute {attribute.name!r}.{known} Export the model again")
    if getattr(onnx.defs.OpSchema.AttrType, attribute.type.name, None) != declared.type:
        expected = str(declared.type).rpartition(".")[2]
        raise ModelError(
            f"{at}: attribute {attribute.name!r} is {attribute.type.name}, expected {expected}; "
            "export the model again"
        )


def _check_count(at: str, what: str, seen: int, least: int, most: int) -> None:
    if not least <= seen <= most:
        expected = str(least) if least == most else f"{least} to {most}"
        raise ModelError(f"{at}: has {seen} {what}, expected {expected}; export the model again")
