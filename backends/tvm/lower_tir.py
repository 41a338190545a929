"""TVM's passes from kernels to what LLVM reads: those that explicit vectors need, in a third of the usual time.

Left out of the default pipeline: what only GPUs use, common subexpressions and hoisting (LLVM does both), and the
repeated simplifications around them.
"""

from __future__ import annotations

from typing import Any

NAME = "qcompiler"


def registered() -> str:
    """The name by which TVM's build functions know this pipeline."""
    from tvm.s_tir.pipeline import finalize_device_passes, finalize_host_passes
    from tvm.tirx.compilation_pipeline import register_tir_pipeline

    register_tir_pipeline(NAME, lambda: (_passes(), finalize_host_passes, finalize_device_passes))
    return NAME


def _passes() -> Any:
    import tvm
    from tvm import s_tir, tirx

    schedule, lower = s_tir.transform, tirx.transform
    return tvm.transform.Sequential(
        [
            schedule.CanonicalizeLoop(),
            schedule.LowerInitBlock(),
            schedule.PlanAndUpdateBufferAllocationLocation(),
            schedule.ConvertBlocksToOpaque(),
            schedule.LowerMatchBuffer(),
            schedule.LowerOpaqueBlock(),
            lower.FlattenBuffer(),
            lower.BF16ComputeLegalize(),
            lower.NarrowDataType(32),
            schedule.LoopPartition(),
            lower.VectorizeLoop(),
            lower.UnrollLoop(),
            lower.StmtSimplify(),
            schedule.RewriteUnsafeSelect(),
            lower.VerifyMemory(),
            lower.AnnotateEntryFunc(),
            lower.SplitHostDevice(),
            lower.MakePackedAPI(),
            lower.FP8StorageLegalize(),
            lower.BF16StorageLegalize(),
        ]
    )
