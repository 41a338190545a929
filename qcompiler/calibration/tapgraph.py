"""The calibration graph: the model with reductions of the observed values as its only outputs.

Activations never leave the runtime; what comes back is as small as the statistic.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from qcompiler.calibration.requests import Window
from qcompiler.errors import UnsupportedError
from qcompiler.graph.qdq import add_initializer
from qcompiler.prepare.clean import remove_unused_nodes

GOLDEN_RATIO = (5**0.5 - 1) / 2


class Tap:
    """Adds nodes behind one value of a calibration graph."""

    def __init__(self, graph: ir.Graph, value: ir.Value, twin: ir.Value | None = None) -> None:
        """``twin`` is what ``value`` is in the float model, where that runs beside this one."""
        self._graph = graph
        self.value = self._as_float(value)
        self._twin = None if twin is None else self._as_float(twin)

    def reduce(self, op: str, axis: int | None) -> ir.Value:
        """Reduce over everything (None) or over every axis but one."""
        if axis is None:
            return self._add(op, [self.value], {"keepdims": 0})
        if self.value.shape is None and axis == -1:
            return self._add(
                op, [self._rows(self.value), self._constant(np.array([0], np.int64))], {"keepdims": 0}
            )
        if self.value.shape is None:
            raise UnsupportedError(
                f"the rank of {self.value.name!r} is unknown; no per-channel statistic of it."
            )
        rank = len(self.value.shape)
        others = [other for other in range(rank) if other != axis % rank]
        if not others:
            squared = op == "ReduceSumSquare"
            return self._add("Mul", [self.value, self.value], {}) if squared else self.value
        return self._add(op, [self.value, self._constant(np.array(others, np.int64))], {"keepdims": 0})

    def size(self) -> ir.Value:
        """Number of elements, int64 0-D."""
        return self._add("Size", [self.value], {}, ir.DataType.INT64)

    def not_finite(self) -> ir.Value:
        """NaN where any element is NaN or infinite, else 0: ``sum(0 * x)``, whatever the kernel's NaN order."""
        zero = self._constant(np.array(0, np.float32))
        return self._add("ReduceSum", [self._add("Mul", [self.value, zero], {})], {"keepdims": 0})

    def gram(self, axis: int = -1, window: Window | None = None) -> list[ir.Value]:
        """X'X ``[C, C]`` and the number of rows ``[1]`` int64, X being the value as ``[rows, C]``, C its ``axis``."""
        rows = self._rows_of(self.value, axis, window)
        return [self._product(rows, rows), self._height(rows)]

    def drift(self, axis: int = -1, window: Window | None = None) -> ir.Value:
        """(X_float - X)'X ``[C, C]``, X_float being the value's twin.

        Raises:
            UnsupportedError: the float model does not run beside this one, or has no such value.
        """
        if self._twin is None:
            raise UnsupportedError(
                f"the float model has no value that {self.value.name!r} could be compared with, so its drift is "
                "unknown; use solver gptq instead of gptaq."
            )
        difference = self._add("Sub", [self._twin, self.value], {})
        moved, value = (self._rows_of(item, axis, window) for item in (difference, self.value))
        return self._product(moved, value)

    def spread_rows(self, count: int) -> ir.Value:
        """At most ``count`` rows of the value seen as ``[rows, C]``: one from each of ``count`` equal parts.

        Where inside its part a row lies follows the golden ratio: with one stride for all, a batch of padded
        sequences would only ever show its first tokens.
        """
        ints, doubles = np.int64, np.float64
        rows = self._rows(self.value)
        height = self._height(rows)
        taken = self._add("Min", [height, self._constant(np.array([count], ints))], {}, ir.DataType.INT64)
        order = np.arange(count, dtype=doubles)
        places = self._constant(order + (order * GOLDEN_RATIO) % 1.0)
        zero = self._constant(np.array([0], ints))
        parts = self._add("Slice", [places, zero, taken], {}, ir.DataType.DOUBLE)
        height, taken = (self._cast(size, ir.DataType.DOUBLE) for size in (height, taken))
        size_of_part = self._add("Div", [height, taken], {}, ir.DataType.DOUBLE)
        chosen = self._add("Mul", [parts, size_of_part], {}, ir.DataType.DOUBLE)
        return self._add("Gather", [rows, self._cast(chosen, ir.DataType.INT64)], {"axis": 0})

    def _rows(self, value: ir.Value) -> ir.Value:
        """A value seen as ``[rows, C]``, whatever its rank."""
        last = self._constant(np.array([-1], np.int64))
        shape = self._add("Shape", [value], {}, ir.DataType.INT64)
        width = self._add("Gather", [shape, last], {}, ir.DataType.INT64)
        flat = self._add("Concat", [last, width], {"axis": 0}, ir.DataType.INT64)
        return self._add("Reshape", [value, flat], {})

    def _rows_of(self, value: ir.Value, axis: int, window: Window | None) -> ir.Value:
        """A value, or its windows, with ``axis`` moved to the end and seen as rows."""
        if window is not None:
            value = self._windows(value, window)
        if axis == -1:
            return self._rows(value)
        if self.value.shape is None:
            raise UnsupportedError(
                f"the rank of {self.value.name!r} is unknown; no statistic of its axis {axis}."
            )
        rank = len(self.value.shape)
        others = [other for other in range(rank) if other != axis % rank]
        return self._rows(self._add("Transpose", [value], {"perm": [*others, axis % rank]}))

    def _windows(self, value: ir.Value, window: Window) -> ir.Value:
        """``[N, C * k..., ...]``: every element of every window, by a convolution that picks them."""
        size = math.prod(window.kernel_shape)
        picks = np.eye(size, dtype=np.float32).reshape(size, 1, *window.kernel_shape)
        kernel = self._constant(np.tile(picks, (window.channels, *[1] * (picks.ndim - 1))))
        attributes: dict[str, int | Sequence[int]] = {
            "group": window.channels,
            "kernel_shape": window.kernel_shape,
            "strides": window.strides,
            "pads": window.pads,
            "dilations": window.dilations,
        }
        return self._add("Conv", [value, kernel], attributes)

    def _height(self, rows: ir.Value) -> ir.Value:
        return self._add("Shape", [rows], {"start": 0, "end": 1}, ir.DataType.INT64)

    def _product(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """left' right; the runtime reads ``left`` transposed in place."""
        return self._add("MatMul", [self._add("Transpose", [left], {}), right], {})

    def bins(self, low: float, high: float, count: int) -> ir.Value:
        """Index of the bin of every element, int32 of the value's shape."""
        factor = np.float32(count / (high - low))
        shifted = self._add("Sub", [self.value, self._constant(np.array(low, np.float32))], {})
        scaled = self._add("Mul", [shifted, self._constant(np.array(factor, np.float32))], {})
        bounds = [self._constant(np.array(bound, np.float32)) for bound in (0.0, count - 1)]
        clipped = self._add("Clip", [scaled, *bounds], {})
        return self._cast(clipped, ir.DataType.INT32)

    def _as_float(self, value: ir.Value) -> ir.Value:
        return value if value.dtype == ir.DataType.FLOAT else self._cast(value, ir.DataType.FLOAT)

    def _cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        return self._add("Cast", [value], {"to": int(dtype)}, dtype)

    def _constant(self, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> ir.Value:
        return add_initializer(self._graph, "qcompiler_tap", array)

    def _add(
        self,
        op: str,
        inputs: list[ir.Value],
        attributes: Mapping[str, int | Sequence[int]],
        dtype: ir.DataType = ir.DataType.FLOAT,
    ) -> ir.Value:
        node = ir.node(op, inputs, dict(attributes), name=f"qcompiler_tap_{len(self._graph)}")
        output = node.outputs[0]
        output.name, output.type = f"{node.name}_output", ir.TensorType(dtype)
        if op == "Cast":
            output.shape = inputs[0].shape
        self._graph.append(node)
        return output


def tappable_values(model: ir.Model) -> dict[str, ir.Value]:
    """Values of the main graph by name; those inside subgraphs cannot be observed from outside."""
    graph = model.graph
    values = {str(value.name): value for value in graph.inputs}
    values |= {str(output.name): output for node in graph for output in node.outputs if output.name}
    return values


def keep_outputs(model: ir.Model, outputs: Iterable[ir.Value]) -> None:
    """Make ``outputs`` the only outputs and drop everything they do not need; inputs stay."""
    model.graph.outputs.clear()
    model.graph.outputs.extend(outputs)
    remove_unused_nodes(model)
