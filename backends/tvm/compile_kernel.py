"""From a PrimFunc to something that can be called here, for a CPU that can run it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from qcompiler.backends.tvm.cpu_features import Variant, host_features
from qcompiler.errors import UnsupportedError

Array = npt.NDArray[np.generic]
Element = TypeVar("Element", bound=np.generic)

ALIGNMENT = 64
"""Bytes that every buffer of a kernel starts at a multiple of: vectors are loaded with instructions that need it."""


@dataclass(frozen=True)
class Kernel:
    """A compiled PrimFunc.

    Attributes:
        library: what holds its code; it must live as long as ``entry`` is called.
        entry: TVM's function.
    """

    library: Any
    entry: Any

    def __call__(self, *arrays: Array) -> None:
        """Run once on arrays in the order of the parameters; outputs are written in place."""
        self.bound(*arrays)()

    def bound(self, *arrays: Array) -> Callable[[], None]:
        """A call on these arrays.

        Raises:
            ValueError: an array does not start at a multiple of ``ALIGNMENT`` or is not contiguous.
        """
        from tvm_ffi import from_dlpack

        for position, array in enumerate(arrays):
            if array.size and (array.ctypes.data % ALIGNMENT or not array.flags.c_contiguous):
                raise ValueError(
                    f"argument {position} {array.shape} must be contiguous and aligned: aligned(array)"
                )
        tensors = [from_dlpack(array) for array in arrays]
        return lambda: self.entry(*tensors)


def aligned(array: npt.NDArray[Element]) -> npt.NDArray[Element]:
    """A contiguous copy that starts at a multiple of ``ALIGNMENT``."""
    room = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


PASS_CONFIG = {"tirx.disable_storage_rewrite": True}
"""Storage rewriting moves registers of nested loops to the heap, and allocates them at every turn."""

_ATTRIBUTES = {
    Variant.PLAIN: ("x86-64", ()),
    Variant.AVX2: ("x86-64-v3", ()),
    Variant.AVX_VNNI: ("x86-64-v3", ("+avxvnni",)),
    Variant.AVX512_VNNI: ("x86-64-v4", ("+avx512vnni", "-prefer-256-bit")),
    Variant.AMX_INT8: ("x86-64-v4", ("+avx512vnni", "+amx-tile", "+amx-int8", "-prefer-256-bit")),
}


def target_config(variant: Variant, cores: int = 1) -> dict[str, Any]:
    """TVM's description of an x86-64 CPU with just the instructions of ``variant``."""
    processor, attributes = _ATTRIBUTES[variant]
    config: dict[str, Any] = {"kind": "llvm", "mcpu": processor, "num-cores": cores}
    if attributes:
        config["mattr"] = list(attributes)
    return config


def compile_kernel(function: Any, variant: Variant, cores: int = 1) -> Kernel:
    """Compile a PrimFunc for ``variant``.

    Args:
        function: a ``tvm.tirx.PrimFunc`` with a ``global_symbol``.
        variant: that it was generated for.
        cores: that ``parallel`` loops may use.

    Raises:
        UnsupportedError: this CPU lacks instructions of ``variant``, so that calling it would end the process.
    """
    missing = variant.needs - host_features()
    if missing:
        raise UnsupportedError(
            f"kernel variant {variant}: this CPU has no {', '.join(sorted(missing))}; use the variant plain."
        )
    import tvm

    from qcompiler.backends.tvm.lower_tir import registered

    with tvm.transform.PassContext(config=PASS_CONFIG):
        config = tvm.target.Target(target_config(variant, cores))
        library = tvm.compile(function, config, tir_pipeline=registered())
    return Kernel(library, library[str(function.attrs["global_symbol"])])
