"""Schedules for GPUs: TVM's own rules, and for products of symbolic rows two kernels between which the host chooses."""

from __future__ import annotations

import functools
import logging
from typing import Any

from qcompiler.errors import UnsupportedError

logger = logging.getLogger(__name__)

THREADS = 128
"""Of a block, where every thread works for itself."""

_SPATIAL, _REDUCED = 0, 2

FEW_ROWS = 4
"""Products of at most so many rows read every weight once (LowBatchGEMV); others share tiles of both operands."""


def scheduled(module: Any, target: Any) -> Any:
    """``module`` with every function bound to blocks and threads.

    Args:
        module: fused functions.
        target: of kind cuda, which the rules look at.
    """
    import tvm

    functions = dict(module.functions)
    for name, function in functions.items():
        if isinstance(function, tvm.tirx.PrimFunc):
            functions[name] = _scheduled(str(name.name_hint), function, target)
    return tvm.IRModule(functions, attrs=module.attrs)


def _scheduled(name: str, function: Any, target: Any) -> Any:
    import tvm
    from tvm.s_tir import dlight

    if (found := _product(function, target) or _direct(function)) is not None:
        return found
    rules = dlight.gpu
    try:
        with target:
            module = dlight.ApplyDefaultSchedule(
                rules.Reduction(), rules.GeneralReduction(), rules.Transpose(), rules.Fallback()
            )(tvm.IRModule({name: function}))
    except Exception as error:  # TVM's own errors share no base class but this one
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        raise UnsupportedError(
            f"tvm-cuda cannot schedule {name!r}, made of the nodes it is named after: {reason}; use --target ort-cpu."
        ) from error
    return module[name]


def _product(function: Any, target: Any) -> Any | None:
    """A matrix product by the rule for its size; None for anything else."""
    from tvm.s_tir import dlight

    if (found := _by_rows(function, target)) is not None:
        return found
    for rule in (dlight.gpu.Matmul(), dlight.gpu.GEMV()):
        if (found := _applied(rule, function, target)) is not None:
            return found.with_attr("tirx.is_scheduled", True)
    return None


def _direct(function: Any) -> Any | None:
    """A convolution, window or product that no rule knows: a thread sums up what it writes.

    TVM's rule for reductions gives a block of threads to every sum, which is for long sums only.
    """
    from tvm import s_tir

    schedule = s_tir.Schedule(function)
    try:
        blocks = schedule.get_child_blocks(schedule.get_sblock("root"))
        sums = [block for block in blocks if _sums_products(schedule, block)]
        if len(sums) != 1 or any(_is_reduction(schedule.get(block)) for block in blocks if block not in sums):
            return None
        last = blocks[-1]
        for block in blocks[:-1]:
            if block not in sums:
                schedule.compute_inline(block)
        _bind_each(schedule, sums[0], last)
    except Exception as error:  # what cannot be arranged so is left to the other rules
        logger.debug("direct: %s", error)
        return None
    return schedule.mod["main"].with_attr("tirx.is_scheduled", True)


def _bind_each(schedule: Any, block: Any, last: Any) -> None:
    """One thread for each value that ``last`` writes."""
    spatial = [
        loop
        for loop, item in zip(schedule.get_loops(last), schedule.get(last).iter_vars, strict=True)
        if int(item.iter_type) == _SPATIAL
    ]
    outer, inner = schedule.split(schedule.fuse(*spatial), [None, THREADS])
    schedule.bind(outer, "blockIdx.x")
    schedule.bind(inner, "threadIdx.x")
    same = schedule.get(block).same_as(schedule.get(last))
    if not same:
        schedule.compute_at(block, inner, preserve_unit_loops=True)
        schedule.set_scope(block, 0, "local")
    loops = schedule.get_loops(block)
    kinds = [int(item.iter_type) for item in schedule.get(block).iter_vars]
    schedule.decompose_reduction(block, loops[len(loops) - kinds.count(_REDUCED)])


def _is_reduction(block: Any) -> bool:
    return any(int(item.iter_type) == _REDUCED for item in block.iter_vars)


def _sums_products(schedule: Any, block: Any) -> bool:
    """Whether it combines two tensors, or a window of one."""
    found = schedule.get(block)
    return _is_reduction(found) and (len(found.reads) > 1 or "pool" in str(found.name_hint))


def _by_rows(function: Any, target: Any) -> Any | None:
    """A product of symbolic rows as a choice between two schedules; None for anything else."""
    from tvm import s_tir, tirx
    from tvm.s_tir import dlight

    few = _applied(dlight.gpu.LowBatchGEMV(FEW_ROWS), function, target)
    many = None if few is None else _applied(dlight.gpu.Matmul(), function, target)
    if few is None or many is None:
        return None
    rows = _rows(function)
    if rows is None:
        return None
    body = tirx.IfThenElse(tirx.op.tvm_thread_invariant(rows <= FEW_ROWS), few.body, many.body)
    block = s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", body))
    return function.with_body(block).with_attr("tirx.is_scheduled", True)


def _applied(rule: Any, function: Any, target: Any) -> Any | None:
    """The function as a rule schedules it; None where the rule is not for it."""
    try:
        with target:
            found = rule.apply(function, target, False)
    except (
        Exception
    ) as error:  # rules meet functions that they were not written for, and TVM's errors share no base
        logger.debug("%s: %s", type(rule).__name__, error)
        return None
    return None if found is None else found.mod["main"]


def _rows(function: Any) -> Any | None:
    """The one size of its buffers that is no constant."""
    from tvm import tirx

    sizes = [size for buffer in function.params for size in getattr(buffer, "shape", None) or ()]
    found = [size for size in sizes if not isinstance(size, tirx.IntImm)]
    return found[0] if found else None


@functools.cache
def planning_target(threads: int = 1024, shared_bytes: int = 48 * 1024) -> Any:
    """What rules plan for: the least that every GPU of compute capability 6.1 or later has."""
    import tvm

    return tvm.target.Target(
        {
            "kind": "cuda",
            "arch": "sm_61",
            "max_threads_per_block": threads,
            "max_shared_memory_per_block": shared_bytes,
            "thread_warp_size": 32,
        }
    )
