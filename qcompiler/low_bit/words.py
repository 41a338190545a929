"""In which words a quantized weight is reported."""

from __future__ import annotations

import math

from qcompiler.graph.low_bit_codes import TWO_BIT_OPSET, container_of
from qcompiler.graph.weighted import WeightedNode
from qcompiler.low_bit.readers import PRODUCTS
from qcompiler.low_bit.solver import Settings
from qcompiler.numerics.formats.affine import Affine
from qcompiler.numerics.formats.base import Format
from qcompiler.numerics.formats.table import Table
from qcompiler.pipeline.base import PassContext


def detail_of(
    view: WeightedNode,
    owner: WeightedNode,
    stored: Format,
    settings: Settings,
    context: PassContext,
    *,
    weighed: bool,
) -> str:
    """``int4 g32 asymmetric, gptq: 4.63 bits``.

    Args:
        view: the node that is reported.
        owner: the node that the codes are solved for; another one where ``view`` is tied to it.
        stored: the format.
        settings: the solver.
        context: of the pass.
        weighed: whether the inputs of ``owner`` are looked at.
    """
    shape = owner.weight_shape
    columns = shape[owner.output_axis]
    bits = stored.bits_per_weight(math.prod(shape) // columns, columns)
    # A target without use for the narrow types packs 2-bit codes when it lowers them.
    opset = context.model.graph.opset_imports[""] if context.target.two_bit_types else TWO_BIT_OPSET
    container = container_of(stored, opset)
    wide = f", codes in {container.bits}-bit containers" if container.bits > stored.code_bits else ""
    shared = "" if view.node is owner.node else f", codes of {owner.name!r}, which shares it"
    return f"{format_words(stored)}, {_solver_words(owner, settings, weighed=weighed)}: {bits:.2f} bits{wide}{shared}"


def format_words(stored: Format) -> str:
    """``int4 g32 asymmetric``."""
    words = [stored.name, "per channel" if stored.group is None else f"g{stored.group}"]
    if isinstance(stored, Affine):
        words.append("symmetric" if stored.symmetric else "asymmetric")
    if isinstance(stored, Table) and stored.double_quantized:
        words.append("double quantized")
    return " ".join(words)


def _solver_words(owner: WeightedNode, settings: Settings, *, weighed: bool) -> str:
    if not settings.solver.from_inputs:
        return f"{settings.solver} weighed by its inputs" if weighed else str(settings.solver)
    if weighed:
        return str(settings.solver)
    if owner.node.op_type in PRODUCTS:
        reason = "what it reads inside a subgraph is not observed"
    else:
        reason = "rows are looked up" if owner.node.op_type == "Gather" else "windows are not observed"
    return f"{settings.search} in the place of {settings.solver}, as its {reason}"
