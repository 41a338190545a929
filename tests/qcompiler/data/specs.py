"""Inputs of made-up models, and data for the first."""

from __future__ import annotations

import numpy as np

from qcompiler.data import DataOptions, InputSpec

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)
X = (InputSpec("x", F32, ("N", 3)),)
PICTURE = (InputSpec("image", F32, ("N", 3, 8, 6)),)
IDS = (InputSpec("input_ids", I64, ("N", "S")), InputSpec("attention_mask", I64, ("N", "S")))
DATA = np.arange(30, dtype=np.float32).reshape(10, 3)
BATCH4 = DataOptions(batch=4)
