"""The order of preparation, on one screen."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from qcompiler.errors import OptionError
from qcompiler.load.versions import NEWEST_OPSET
from qcompiler.prepare.batchnorm import fold_batchnorms
from qcompiler.prepare.clean import remove_unused
from qcompiler.prepare.constants import lift_constants
from qcompiler.prepare.fold import fold_constants
from qcompiler.prepare.functions import inline_functions
from qcompiler.prepare.gemm_bias import flatten_gemm_biases
from qcompiler.prepare.hoist import hoist_constant_nodes
from qcompiler.prepare.identity import remove_identities
from qcompiler.prepare.naming import adopt_names, name_nodes, name_values, names_by_value
from qcompiler.prepare.opset import LOWEST_USABLE_OPSET, raise_opset
from qcompiler.prepare.report import PrepareReport
from qcompiler.prepare.shapes import infer_shapes
from qcompiler.prepare.signature import Signature, drop_initialized_inputs
from qcompiler.prepare.widen import widen

MOST_ROUNDS = 16
"""Folding opens new folding; a model that still changes after so many rounds is left as it is."""


def prepare(model: ir.Model, *, opset: int = 21) -> PrepareReport:
    """Bring ``model`` into the form that passes work on, in place; what it computes stays the same.

    Names, order and types of inputs and outputs do not change, except that an initializer that is also
    listed as an input (IR version 3) is no input any more.  Every node has a unique name and the metadata
    ``qcompiler.origin``, the name of the node of the user's file that it stands for.

    Args:
        model: a model that :func:`qcompiler.load.load_model` returned.
        opset: version of the standard operators to raise to, 13 to 25; a model is never lowered.

    Raises:
        OptionError: ``opset`` is out of range.
        UnsupportedError: opset 13, which the quantized formats need, cannot be reached.
    """
    if not LOWEST_USABLE_OPSET <= opset <= NEWEST_OPSET:
        raise OptionError(
            f"opset {opset} is out of range; give one from {LOWEST_USABLE_OPSET} to {NEWEST_OPSET}"
        )
    notes: list[str] = []
    opset_before = model.graph.opset_imports.get("", opset)
    inputs_dropped = drop_initialized_inputs(model)
    signature = Signature.of(model)
    name_nodes(model)
    name_values(model)
    functions_inlined = inline_functions(model)
    nodes_before = sum(1 for _ in model.graph.all_nodes())
    remove_unused(model)
    constants_lifted = lift_constants(model)
    infer_shapes(model, [])  # what is unknown now may be known after folding
    constants_widened = widen(model, notes)
    raise_opset(model, opset, notes)
    constants_lifted += lift_constants(model)

    rounds = _fold_until_stable(model)
    flatten_gemm_biases(model)
    remove_unused(model)
    name_values(model)
    infer_shapes(model, notes)
    signature.restore(model)
    return PrepareReport(
        opset_before=opset_before,
        opset_after=model.graph.opset_imports.get("", opset),
        nodes_before=nodes_before,
        nodes_after=sum(1 for _ in model.graph.all_nodes()),
        inputs_dropped=inputs_dropped,
        functions_inlined=functions_inlined,
        constants_lifted=constants_lifted,
        nodes_folded=rounds.nodes_folded,
        identities_removed=rounds.identities_removed,
        batchnorms_folded=rounds.batchnorms_folded,
        constants_widened=constants_widened,
        notes=tuple(notes),
        left=rounds.left,
    )


@dataclass(frozen=True)
class _Folded:
    """What the rounds of folding did; ``left`` is what the last of them left."""

    identities_removed: int
    nodes_folded: int
    batchnorms_folded: int
    left: tuple[str, ...]


def _fold_until_stable(model: ir.Model) -> _Folded:
    identities_removed = nodes_folded = batchnorms_folded = 0
    left: list[str] = []
    for _ in range(MOST_ROUNDS):
        names = names_by_value(model)
        left = []
        removed = remove_identities(model)
        moved = hoist_constant_nodes(model)
        folded = fold_constants(model, left) + lift_constants(model) + remove_unused(model)
        merged = fold_batchnorms(model, left)
        adopt_names(model, names)
        identities_removed, nodes_folded = identities_removed + removed, nodes_folded + folded
        batchnorms_folded += merged
        if not removed + moved + folded + merged:
            break
    return _Folded(identities_removed, nodes_folded, batchnorms_folded, tuple(dict.fromkeys(left)))
