"""What a caller sees of a model: its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class Signature:
    """Types and shapes of outputs as the file declares them, to be put back after inference refined them."""

    outputs: tuple[tuple[str | None, ir.TypeProtocol | None, ir.Shape | None], ...]

    @classmethod
    def of(cls, model: ir.Model) -> Signature:
        return cls(tuple((value.name, value.type, _copy(value.shape)) for value in model.graph.outputs))

    def restore(self, model: ir.Model) -> None:
        """Put declared types and shapes back; what was not declared keeps what was inferred."""
        for value, (name, declared_type, declared_shape) in zip(
            model.graph.outputs, self.outputs, strict=True
        ):
            assert value.name == name, f"output {name!r} became {value.name!r}"
            if declared_type is not None:
                value.type = declared_type
            if declared_shape is not None:
                value.shape = declared_shape


def drop_initialized_inputs(model: ir.Model) -> tuple[str, ...]:
    """Remove from the graph's inputs those that have an initializer, and return their names.

    Up to IR version 3 every initializer had to be listed; later a listed one is a default that a caller
    may override, which nothing that is folded or quantized can honour.
    """
    dropped = [value for value in model.graph.inputs if value.is_initializer()]
    kept = [value for value in model.graph.inputs if not value.is_initializer()]
    if dropped:
        model.graph.inputs.clear()
        model.graph.inputs.extend(kept)
    return tuple(str(value.name) for value in dropped)


def _copy(shape: ir.Shape | None) -> ir.Shape | None:
    return None if shape is None else shape.copy()
