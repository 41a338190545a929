"""One attempt: run the passes, lower the result, write it, and read back what the runtime makes of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from qcompiler.backends.base import LegalizeReport, NodeKernel, NodeKey, Target
from qcompiler.errors import ModelError
from qcompiler.graph.names import names_kept
from qcompiler.graph.stored_half import store_in_half
from qcompiler.package.write import drop_traces
from qcompiler.pipeline.base import PassReport
from qcompiler.pipeline.run import Pipeline

MENDING_ROUNDS = 3


@dataclass(frozen=True)
class Build:
    """A written model that is still to be verified.

    Attributes:
        dialect: the model between passes and target: what it means.
        deployed: the model as lowered: what runs.
        grown: float weights that the file had in 16 bits and that take 32 now, because a transform changed them.
        mended: weights whose DequantizeLinear the runtime did not fuse; they are expanded at load instead.
    """

    path: Path
    dialect: ir.Model
    deployed: ir.Model
    passes: tuple[PassReport, ...]
    legalized: LegalizeReport
    kernels: tuple[NodeKernel, ...]
    mended: tuple[str, ...]
    reverted: tuple[str, ...]
    grown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lowered:
    """A model that is still to be written; attributes as of :class:`Build`."""

    dialect: ir.Model
    deployed: ir.Model
    passes: tuple[PassReport, ...]
    legalized: LegalizeReport
    grown: tuple[str, ...]


def lower(pipeline: Pipeline, reverted: tuple[str, ...] = ()) -> Lowered:
    """Run the passes with ``reverted`` nodes left in float, and let the target have the result."""
    target = pipeline.target
    dialect, passes = pipeline.run(frozenset(reverted))
    pipeline.tell("lowering")
    deployed = dialect.clone()
    with names_kept(deployed):
        legalized = target.legalize(deployed)
        grown = store_in_half(deployed) if target.stores_half else ()
    drop_traces(deployed)
    return Lowered(dialect, deployed, passes, legalized, grown)


def build(pipeline: Pipeline, path: Path, reverted: tuple[str, ...], *, external: bool | None) -> Build:
    """Compile to ``path`` with ``reverted`` nodes left in float."""
    target, made = pipeline.target, lower(pipeline, reverted)
    target.write(made.deployed, path, external=external)
    mended = _mend(made.deployed, path, target, external=external)
    keys = quantized_keys(pipeline.reference, made.passes)
    kernels = tuple(target.kernels(path, keys))
    return Build(
        path,
        made.dialect,
        made.deployed,
        made.passes,
        made.legalized,
        kernels,
        mended,
        reverted,
        made.grown,
    )


def quantized_keys(reference: ir.Model, passes: tuple[PassReport, ...]) -> list[NodeKey]:
    """The nodes of the prepared model that any pass quantized."""
    names = {
        decision.node for report in passes for decision in report.nodes if decision.action == "quantized"
    }
    return [
        NodeKey(str(node.name), node.op_type, tuple(str(output.name) for output in node.outputs))
        for node in reference.graph.all_nodes()
        if node.name in names
    ]


def _mend(deployed: ir.Model, path: Path, target: Target, *, external: bool | None) -> tuple[str, ...]:
    mended: list[str] = []
    for _ in range(MENDING_ROUNDS):
        with names_kept(deployed):
            found = target.mend(deployed, path)
        if not found:
            return tuple(mended)
        mended += found
        target.write(deployed, path, external=external)
    raise ModelError(
        f"the runtime leaves {mended[-1]!r} unfused however it is written; exclude it with --exclude."
    )
