"""Putting quantized weights into the graph once, however many nodes share them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.graph.low_bit import BITS
from qcompiler.graph.narrow_codes import NARROW, NarrowCodes
from qcompiler.graph.qdq import dequantized_weight
from qcompiler.graph.weighted import WeightedNode, array_of
from qcompiler.numerics.weights import quantize_weight


@dataclass(frozen=True)
class Coded:
    """int8 codes of a weight, and what a file shall hold in their place.

    Attributes:
        codes: int8, of the weight's shape.
        scale: float32 ``[C]``.
        narrow: the same codes in fewer bits.
        bits: that a weight takes in the file, scales included.
    """

    codes: npt.NDArray[np.int8]
    scale: npt.NDArray[np.float32]
    narrow: NarrowCodes
    bits: float


@dataclass
class WeightStorage:
    """Quantizes weights symmetrically and keeps tied weights tied.

    Attributes:
        largest_code: 127, or 63 for reduced range.
        clip_mse: choose scales for least squared error.
        half_scales: give every stored weight, and not tables alone, scales that float16 holds exactly.
    """

    largest_code: int
    clip_mse: bool = False
    half_scales: bool = False
    _stored: dict[tuple[int, int | None], tuple[ir.Value, npt.NDArray[np.float32]]] = field(
        default_factory=dict
    )

    def store(
        self,
        view: WeightedNode,
        axis: int | None,
        *,
        least_scale: npt.NDArray[np.float32] | None = None,
        coder: Callable[[], Coded] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Let ``view.node`` read its weight from int8 codes; return the scale, ``[C]`` or 0-D, >= ``least_scale``.

        Args:
            coder: finds the codes in the place of rounding to nearest.
        """
        halves = self.half_scales or view.node.op_type == "Gather"
        dequantized, scale = (
            self.dequantized(view.weight, axis, half_scales=halves, least_scale=least_scale)
            if coder is None
            else self._coded(view.weight, axis, coder)
        )
        if view.transpose is not None:
            view.transpose.replace_input_with(0, dequantized)
        else:
            view.node.replace_input_with(view.weight_input, dequantized)
        return scale

    def _coded(
        self, weight: ir.Value, axis: int | None, coder: Callable[[], Coded]
    ) -> tuple[ir.Value, npt.NDArray[np.float32]]:
        key = (id(weight), axis)
        if key not in self._stored:
            coded = coder()
            value = dequantized_weight(weight, coded.codes, coded.scale, axis)
            node = value.producer()
            if node is None or node.inputs[0] is None:
                raise AssertionError(f"{value.name} is not dequantized")
            node.metadata_props[BITS] = f"{coded.bits:.4f}"
            node.inputs[0].meta[NARROW] = coded.narrow
            self._stored[key] = value, coded.scale
        return self._stored[key]

    def dequantized(
        self,
        weight: ir.Value,
        axis: int | None,
        *,
        half_scales: bool = False,
        least_scale: npt.NDArray[np.float32] | None = None,
    ) -> tuple[ir.Value, npt.NDArray[np.float32]]:
        """The DequantizeLinear of ``weight``'s codes and their scale, made at the first call.

        A table of short rows has many scales: with ``half_scales`` they are such that float16 holds them exactly.
        """
        key = (id(weight), axis)
        if key not in self._stored:
            array = array_of(weight).astype(np.float32, copy=False)
            codes, scale = quantize_weight(
                array,
                axis,
                self.largest_code,
                clip_mse=self.clip_mse,
                half_scales=half_scales,
                least_scale=least_scale,
            )
            self._stored[key] = dequantized_weight(weight, codes, scale, axis), scale
        return self._stored[key]
