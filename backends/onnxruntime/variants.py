"""Both sides of every If that lowering made: a verified model is one whose decode *and* prefill were looked at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.low_bit_kernels import PREFILL_LIMIT

_FORCED = {"decode": np.iinfo(np.int64).max, "prefill": 0}
"""Elements from which on a product is one of many rows."""


@contextlib.contextmanager
def forced_branches(path: Path) -> Iterator[list[Path]]:
    """Models that share the weights of ``path`` and always decode, or always prefill; none where it has no such If."""
    model = ir.load(path)
    limits = [value for name, value in model.graph.initializers.items() if name.startswith(PREFILL_LIMIT)]
    written: list[Path] = []
    try:
        for name, limit in _FORCED.items() if limits else ():
            for value in limits:
                value.const_value = ir.tensor(np.array(limit, np.int64), name=value.name)
            written.append(path.with_name(f"{path.stem}.{name}.onnx"))  # beside the weights it refers to
            ir.save(model, written[-1])
        yield written
    finally:
        for file in written:
            file.unlink(missing_ok=True)
