"""Attributes of nodes, with the defaults of their operators."""

from __future__ import annotations

import onnx_ir as ir


def axis_of(node: ir.Node, name: str, rank: int, default: int) -> int:
    """An axis attribute, counted from the front."""
    found = integer(node, name, default)
    return found + rank if found < 0 else found


def integer(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else int(attribute.as_int())


def number(node: ir.Node, name: str, default: float) -> float:
    attribute = node.attributes.get(name)
    return default if attribute is None else float(attribute.as_float())


def text(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


def integers_of(node: ir.Node, name: str) -> list[int] | None:
    attribute = node.attributes.get(name)
    return None if attribute is None else [int(item) for item in attribute.as_ints()]
