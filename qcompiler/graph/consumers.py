"""Linear nodes by the activation that they share: what scales it must scale all of their weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.graph.channels import input_channels
from qcompiler.graph.rewire import Reader
from qcompiler.graph.weighted import WeightedNode


@dataclass(frozen=True)
class Consumers:
    """The linear consumers that share one activation.

    Attributes:
        value: the activation.
        consumers: at least one.
    """

    value: ir.Value
    consumers: tuple[WeightedNode, ...]

    @property
    def name(self) -> str:
        return str(self.value.name)

    @property
    def readers(self) -> list[Reader]:
        return [(view.node, 0) for view in self.consumers]

    @property
    def channels(self) -> int:
        return input_channels(self.consumers[0])


def by_activation(views: Iterable[WeightedNode]) -> list[Consumers]:
    """``views`` in groups, in the order in which activations are first read."""
    found: dict[ir.Value, list[WeightedNode]] = {}
    for view in views:
        found.setdefault(view.activation, []).append(view)
    return [Consumers(value, tuple(consumers)) for value, consumers in found.items()]
