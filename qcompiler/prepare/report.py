"""What preparation did."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PrepareReport:
    """Counts of what was changed, and in words what was not and why.

    Attributes:
        opset_before: version of the standard operators in the file.
        opset_after: the version reached; lower than asked where a note says so.
        nodes_before: nodes in the file, subgraphs included, functions counted where they are called.
        nodes_after: nodes left.
        inputs_dropped: initializers that were listed as graph inputs, and are constants now.
        functions_inlined: calls of model-local functions replaced by their bodies.
        constants_lifted: Constant nodes turned into initializers.
        nodes_folded: nodes computed at compile time, or removed because nothing used them.
        identities_removed: Identity, and Dropout at inference.
        batchnorms_folded: BatchNormalization, Mul or Add by constants, merged into the weights before it.
        constants_widened: constants of 16-bit floats that are read as float32.
        notes: where the model falls short of what was asked for, with the reason.
        left: nodes that were not folded and run as they are, with the reason.
    """

    opset_before: int
    opset_after: int
    nodes_before: int
    nodes_after: int
    inputs_dropped: tuple[str, ...]
    functions_inlined: int
    constants_lifted: int
    nodes_folded: int
    identities_removed: int
    batchnorms_folded: int
    notes: tuple[str, ...]
    left: tuple[str, ...] = ()
    constants_widened: int = 0
