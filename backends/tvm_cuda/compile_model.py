"""From a lowered graph to two libraries: one with kernels for GPUs, and one for checks on a CPU."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.compile_kernel import PASS_CONFIG, target_config
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.importing.graph import Dialect, Imported, import_graph
from qcompiler.backends.tvm.lower_tir import registered
from qcompiler.backends.tvm.schedule import scheduled as scheduled_for_cpu
from qcompiler.backends.tvm.tune import Effort
from qcompiler.backends.tvm_cuda.dots import dot_by_instruction, dot_by_shifts
from qcompiler.backends.tvm_cuda.importing import converters
from qcompiler.backends.tvm_cuda.nvrtc import ptx
from qcompiler.backends.tvm_cuda.schedule import planning_target, scheduled
from qcompiler.errors import UnsupportedError

NAME = "tvm-cuda"

_HALF = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)

_ENTRY, _VIEW = "main", "relax.reshape"


def imported_for_device(model: ir.Model) -> Imported:
    """The graph as Relax, with instructions of GPUs.

    Raises:
        UnsupportedError: names the first node that cannot be imported, why, and what to do.
    """
    for value in model.graph.inputs:
        if value.dtype in _HALF:
            raise UnsupportedError(
                f"input {value.name!r} is {value.dtype.name}, and {NAME} computes in float32: export the model with "
                "float32 inputs (weights may stay in 16 bits), or use --target ort-cpu."
            )
        if value.shape is not None and 0 in list(value.shape):
            raise UnsupportedError(
                f"input {value.name!r} is {list(value.shape)}: {NAME} makes no kernels of nothing; export it with a "
                "symbolic size."
            )
    return import_graph(model, Variant.PLAIN, Effort.NONE, Dialect(NAME, converters(dot_by_instruction)))


def compile_for_device(model: ir.Model, arch: str) -> tuple[Imported, Any]:
    """What was imported, and TVM's executable: machine code for the host, PTX for ``arch`` (such as sm_80).

    Raises:
        UnsupportedError: a node cannot be imported.
    """
    import tvm
    from tvm import relax

    imported = imported_for_device(model)
    planned = planning_target()
    with planned, tvm.transform.PassContext(opt_level=3):
        module = scheduled(_fused(imported.module), planned)
    device = tvm.target.Target(planned, host=tvm.target.Target(target_config(Variant.PLAIN)))
    with device, tvm.transform.PassContext(opt_level=3), _refusals(), _as_ptx(arch):
        executable = relax.build(module, device, relax_pipeline=_lowering(device))
    return imported, executable


def compile_for_host(model: ir.Model) -> tuple[Imported, Any]:
    """The same graph for this machine's CPU: the very definitions, before any schedule for GPUs."""
    import tvm
    from tvm import relax

    imported = import_graph(model, Variant.PLAIN, Effort.NONE, Dialect(NAME, converters(dot_by_shifts)))
    target = tvm.target.Target(target_config(Variant.PLAIN))
    with target, tvm.transform.PassContext(config=PASS_CONFIG):
        module = scheduled_for_cpu(_fused(imported.module))
        executable = relax.build(module, target, relax_pipeline=_lowering(target), tir_pipeline=registered())
    return imported, executable


def _fused(module: Any) -> Any:
    import tvm
    from tvm import relax

    transform = relax.transform
    passes = [
        transform.CanonicalizeBindings(),
        transform.EliminateCommonSubexpr(),
        relax.backend.DispatchSortScan(),
        transform.LegalizeOps(skip_ops=[_VIEW]),
        transform.AnnotateTIROpPattern(),
        transform.FuseOps(),
        transform.FuseTIR(),
        transform.DeadCodeElimination([_ENTRY]),
    ]
    return tvm.transform.Sequential(passes)(module)


def _lowering(target: Any) -> Any:
    import tvm
    from tvm import relax
    from tvm.relax.backend.cpu_generic.pipeline import finalize_passes

    transform = relax.transform
    lower = [transform.ToNonDataflow(), transform.RemovePurityChecking(), transform.CallTIRRewrite()]
    return tvm.transform.Sequential(lower + finalize_passes(target))


_SOURCE_HOOK, _FORCE = "tvm_callback_cuda_postproc", "TVM_COMPILE_FORCE_FALLBACK"


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What TVM cannot generate code for is told in one line."""
    try:
        yield
    except UnsupportedError:
        raise
    except Exception as error:  # TVM's own errors share no base class but this one
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        raise UnsupportedError(f"{NAME}: TVM generates no code: {reason}; use --target ort-cpu.") from error


@contextlib.contextmanager
def _as_ptx(arch: str) -> Iterator[None]:
    """Let TVM put PTX in the place of the CUDA source that it makes, and not ask a runtime for it."""
    import tvm_ffi

    before, refused = os.environ.get(_FORCE), list[UnsupportedError]()

    def compiled(source: str, target: object) -> str:
        del target
        try:
            return ptx(str(source), arch)
        except UnsupportedError as error:  # which TVM would pass on as an error of its own
            refused.append(error)
            return ""

    os.environ[_FORCE] = "1"
    tvm_ffi.register_global_func(_SOURCE_HOOK, compiled, override=True)
    try:
        yield
    finally:
        tvm_ffi.registry.remove_global_func(_SOURCE_HOOK)
        if before is None:
            os.environ.pop(_FORCE)
        else:
            os.environ[_FORCE] = before
    if refused:
        raise refused[0]
