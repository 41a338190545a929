"""Loops for what has no generated kernel: element-wise chains and reductions that TVM fused.

Spatial loops outside are fused and run in parallel; the innermost is vectorized where its length is a constant that
vectors divide, and left to LLVM otherwise.  A matrix product runs over its columns innermost.
"""

from __future__ import annotations

from typing import Any

VECTOR = 16
"""Lanes tried first; then half as many, down to 4."""

PARALLEL_ELEMENTS = 1 << 15
"""Loops over fewer elements, where that is known, cost less than waking a thread."""

KERNEL = "qcompiler.kernel"
"""Attribute of functions that are scheduled already."""


def scheduled(module: Any) -> Any:
    """``module`` with every function scheduled that is not a generated kernel."""
    import tvm
    from tvm import tirx

    functions = dict(module.functions)
    for name, function in functions.items():
        if isinstance(function, tirx.PrimFunc) and not (function.attrs and function.attrs.get(KERNEL)):
            functions[name] = _scheduled(function)
    return tvm.IRModule(functions, attrs=module.attrs)


def _scheduled(function: Any) -> Any:
    import tvm
    from tvm import s_tir

    module = tvm.IRModule({"main": function})
    schedule = s_tir.Schedule(module)
    try:
        root = schedule.get_sblock("root", "main")
    except Exception:  # a function of extern calls or bare loops has no blocks to move
        return function
    for block in schedule.get_child_blocks(root):
        _inline(schedule, block)
    for block in schedule.get_child_blocks(schedule.get_sblock("root", "main")):
        _loops(schedule, block)
    return schedule.mod["main"].with_attrs(function.attrs) if function.attrs else schedule.mod["main"]


def _inline(schedule: Any, block: Any) -> None:
    """Compute what only moves or maps elements where it is read."""
    try:
        schedule.compute_inline(block)
    except Exception:  # reductions, and what is returned, stay
        return


def _loops(schedule: Any, block: Any) -> None:
    loops = schedule.get_loops(block)
    kinds = [int(var.iter_type) for var in schedule.get(block).iter_vars]
    if len(loops) != len(kinds) or any(kind not in (0, 2) for kind in kinds):
        return
    spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 0]
    summed = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == 2]
    if not spatial:
        return
    inner = spatial[-1]
    outer = spatial[:-1]
    extent = _constant(schedule, inner)
    lanes = next(
        (n for n in (VECTOR, VECTOR // 2, VECTOR // 4) if extent is not None and extent % n == 0), None
    )
    moved = summed and (lanes is not None or extent is None)
    if moved and extent != 1:
        schedule.reorder(*outer, *summed, inner)
    if lanes is not None:
        split = schedule.split(inner, [None, lanes])
        if not summed:
            outer, inner = [*outer, split[0]], split[1]
        else:
            inner = split[1]
        schedule.vectorize(inner)
    if outer:
        whole = schedule.fuse(*outer) if len(outer) > 1 else outer[0]
        schedule.parallel(whole)
    if summed:
        schedule.decompose_reduction(block, summed[0])


def _constant(schedule: Any, loop: Any) -> int | None:
    from tvm import tirx

    extent = schedule.get(loop).extent
    return int(extent.value) if isinstance(extent, tirx.IntImm) else None
