"""Whether two models belong together, and in which form the float one is compared."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompiler.diagnosis.cut import note_types
from qcompiler.diagnosis.errors import Scene
from qcompiler.diagnosis.lift import is_quantized_operator
from qcompiler.diagnosis.lift_constants import fold_constants
from qcompiler.diagnosis.match import Matches
from qcompiler.errors import InputError, QCompilerError, UnsupportedError
from qcompiler.graph.cache_codes import read_scales
from qcompiler.graph.weighted import array_of
from qcompiler.prepare import prepare
from qcompiler.prepare.constants import lift_constants
from qcompiler.prepare.naming import name_nodes
from qcompiler.verify.compare import require_same_interface
from qcompiler.verify.segmented import weight_bytes

_UNRELATED = 0.3
"""Where half of the weights have a smaller cosine to the float ones, they are other weights."""


COPIES = 3
"""The float weights, what the quantized ones stand for, and what a session holds of either."""


@dataclass(frozen=True)
class Pair:
    """Two models with the same inputs and outputs, of which the second is quantized."""

    reference: ir.Model
    quantized: ir.Model
    names: tuple[str, str]

    def matched(self, match: Callable[[ir.Model], Matches]) -> tuple[ir.Model, Matches]:
        """The float model as it is or prepared (constants and batch norms folded), whichever has more names in common.

        Raises:
            ModelError: a constant cannot be computed.
        """
        plain = self.reference.clone()
        lift_constants(plain)
        fold_constants(plain, {})
        prepared = self.reference.clone()
        try:
            prepare(prepared)
            lift_constants(prepared)
            fold_constants(prepared, {})
        except QCompilerError:
            note_types(plain)
            return plain, match(plain)
        for model in (prepared, plain):
            note_types(model)
        found = [(model, match(model)) for model in (prepared, plain)]
        return max(found, key=lambda item: len(item[1].pairs) - len(item[1].by_structure))


def pair_models(reference: ir.Model, quantized: ir.Model, names: tuple[str, str]) -> Pair:
    """Check that the two can belong together.

    Raises:
        InputError: other inputs or outputs, nothing quantized in the second, or something in the first.
        UnsupportedError: they do not fit into the memory of this machine.
    """
    first, second = (_is_quantized(model) for model in (reference, quantized))
    if first and not second:
        raise InputError(
            f"{names[0]} is quantized and {names[1]} is not; give the float model first: "
            f"qcompile diagnose {names[1]} {names[0]}."
        )
    if first:
        raise InputError(
            f"{names[0]} is quantized itself; give the float model that {names[1]} was made from first."
        )
    if not second and read_scales(quantized.metadata_props):
        raise InputError(
            f"nothing but the cache of {names[1]} is quantized, and no node of it is to blame; what that costs says "
            f"qcompile compare {names[0]} {names[1]}."
        )
    if not second:
        raise InputError(
            f"{names[1]} holds no quantized node (QuantizeLinear, QLinearConv, MatMulInteger, MatMulNBits, ...): "
            "there is nothing to diagnose; give the quantized model second."
        )
    require_same_interface(reference, quantized)
    _require_memory(reference, names[0])
    name_nodes(reference)  # as a compile names them, so that --exclude knows the names
    name_nodes(quantized)
    return Pair(reference, quantized, names)


def _require_memory(model: ir.Model, name: str) -> None:
    needed, there = COPIES * weight_bytes(model), memory_bytes()
    if needed > there:
        raise UnsupportedError(
            f"diagnosing holds the weights of {name} about {COPIES} times in memory, {needed / 1e9:.1f} GB, and this "
            f"machine has {there / 1e9:.1f} GB; diagnose a smaller model of the same kind, or on a larger machine."
        )


def memory_bytes() -> int:
    """Physical memory of this machine; what cannot be found out is taken for boundless."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return sys.maxsize


def _is_quantized(model: ir.Model) -> bool:
    return any(is_quantized_operator(node) for node in model.graph.all_nodes())


def require_related(here: Scene, pair: Pair) -> None:
    """Refuse models that have nothing in common inside.

    Raises:
        InputError: no quantized part could be matched, or the weights are others.
    """
    parts = [part for part in here.parts if part.quantized]
    if not parts:
        raise InputError(
            f"no quantized part of {pair.names[1]} could be matched with a node of {pair.names[0]}: give the float "
            "model that it was made from."
        )
    cosines = []
    for part in parts:
        for item in part.operands:
            if item.exact is not None and item.exact.const_value is not None:
                made = array_of(here.lifted.model.graph.initializers[item.stored]).astype(np.float64)
                exact = array_of(item.exact).astype(np.float64)
                if exact.ndim > 1:
                    scale = float(np.sqrt(np.vdot(made, made) * np.vdot(exact, exact)))
                    cosines.append(float(np.vdot(made, exact)) / scale if scale else 1.0)
    if len(cosines) > 2 and float(np.median(cosines)) < _UNRELATED:
        raise InputError(
            f"the weights of {pair.names[1]} are not those of {pair.names[0]} (median cosine "
            f"{float(np.median(cosines)):.2f} over {len(cosines)}): give the float model that it was made from, of the "
            "same training."
        )
