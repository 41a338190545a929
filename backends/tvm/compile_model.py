"""From a lowered graph to machine code: one library for each variant of the kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.compile_kernel import PASS_CONFIG
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.importing.graph import ENTRY, IN_PLACE, Imported, import_graph
from qcompiler.backends.tvm.lower_tir import registered
from qcompiler.backends.tvm.schedule import scheduled
from qcompiler.backends.tvm.tune import Effort


def compile_model(
    model: ir.Model, variant: Variant, target: Mapping[str, Any], tune: Effort = Effort.NONE
) -> tuple[Imported, Any]:
    """Import and compile.

    Args:
        model: as :func:`qcompiler.backends.tvm.legalize.legalize` leaves it.
        variant: of the kernels.
        target: TVM's description of the CPU.
        tune: how many tiles of each kernel are timed on this one.

    Returns:
        What was imported, and TVM's executable, which can be exported.

    Raises:
        UnsupportedError: a node cannot be imported.
    """
    import tvm
    from tvm import relax

    imported = import_graph(model, variant, tune, in_place=True)
    described = tvm.target.Target(dict(target))
    with described, tvm.transform.PassContext(config=PASS_CONFIG):
        module = tvm.transform.Sequential(
            [
                relax.transform.CanonicalizeBindings(),
                relax.transform.EliminateCommonSubexpr(),
                relax.backend.DispatchSortScan(),
                relax.transform.LegalizeOps(skip_ops=[_VIEW]),
                relax.transform.AnnotateTIROpPattern(),
                relax.transform.FuseOps(),
                relax.transform.FuseTIR(),
                relax.transform.DeadCodeElimination([ENTRY, *([IN_PLACE] if imported.in_place else [])]),
            ]
        )(imported.module)
        module = scheduled(module)
        executable = relax.build(module, described, relax_pipeline=_lowering(), tir_pipeline=registered())
    return imported, executable


_VIEW = "relax.reshape"
"""Stays an operator that the runtime serves without a copy; as loops it is one only where sizes can be proven equal."""


def _lowering() -> Any:
    """What is left of TVM's own pipeline once functions are fused and scheduled.

    Without its search for functions that only reshape: views are operators of their own here, and the search stops at
    functions of bare loops, as generated kernels are.
    """
    import tvm
    from tvm import relax
    from tvm.relax.backend.cpu_generic.pipeline import finalize_passes

    transform = relax.transform
    lower = [transform.ToNonDataflow(), transform.RemovePurityChecking(), transform.CallTIRRewrite()]
    return tvm.transform.Sequential(lower + finalize_passes(tvm.target.Target.current()))
