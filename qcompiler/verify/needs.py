"""What verification takes in memory, told before anything long begins.

Compiling holds one weight at a time; comparing runs the models.  Measured as multiples of the float weights' bytes:
timing holds the float model as the runtime packs it beside the compiled one; comparing holds three models where they
are small, and of large ones the deployed model or a segment of another, never both.  These are estimates: activations
and caches of the data come on top.
"""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from qcompiler.errors import UnsupportedError
from qcompiler.tensors import HALF_TYPES
from qcompiler.verify.segmented import LARGE_BYTES, weight_bytes

_SPEED = 3.6
_NUMERICS = 3.6
_NUMERICS_OF_LARGE = 0.6
_BASE_BYTES = 500_000_000
_MEMINFO = Path("/proc/meminfo")


def verification_bytes(model: ir.Model, level: str) -> int:
    """About the most memory that verifying at ``level`` holds; 0 for "none"."""
    if level == "none":
        return 0
    size = weight_bytes(model) + _half_bytes(model)
    numerics = _NUMERICS_OF_LARGE if size > LARGE_BYTES else _NUMERICS
    return int(size * (_SPEED if level == "speed" else numerics)) + _BASE_BYTES


def _half_bytes(model: ir.Model) -> int:
    """Bytes of the constants in 16-bit floats, which are float32 in memory: as much again."""
    values = [value for graph in model.graphs() for value in graph.initializers.values()]
    tensors = [value.const_value for value in values if value.const_value is not None]
    return sum(tensor.nbytes for tensor in tensors if tensor.dtype in HALF_TYPES)


def available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say (not Linux)."""
    lines = _MEMINFO.read_text().splitlines() if _MEMINFO.exists() else []
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def refuse_unverifiable(model: ir.Model, level: str) -> None:
    """Refuse a verification that would be killed for want of memory, or whose data cannot be given to the runtime.

    Raises:
        UnsupportedError: says what is needed, what there is, and which level fits.
    """
    public = [
        value for value in (*model.graph.inputs, *model.graph.outputs) if value.dtype == ir.DataType.BFLOAT16
    ]
    if public and level != "none":
        raise UnsupportedError(
            f"{public[0].name!r} is bfloat16, which ONNX Runtime takes and gives no arrays of; export the model with "
            "float32 or float16 inputs and outputs (weights may stay bfloat16), or add --verify none."
        )
    needed, available = verification_bytes(model, level), available_bytes()
    if available is None or needed <= available:
        return
    lower = verification_bytes(model, "numerics")
    fitting = "numerics" if level == "speed" and lower <= available else "none"
    raise UnsupportedError(
        f"verification (--verify {level}) needs about {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB "
        f"are available; --verify {fitting} fits."
    )
