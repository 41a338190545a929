"""Raising a model to the opset that has ``Attention`` and ``RMSNormalization``."""

from __future__ import annotations

import onnx_ir as ir

_LEAST_OPSET, _OPSET, _IR_VERSION = 21, 23, 11
"""From opset 21 to 23 no operator changed its meaning, so a model of 21 may say 23."""


def can_raise(model: ir.Model) -> bool:
    """Whether the model's opset is one that may be raised."""
    return model.opset_imports.get("", 0) >= _LEAST_OPSET


def raise_opset(model: ir.Model) -> None:
    """Say opset 23 (or what the model says, if more) and the IR version that came with it."""
    model.opset_imports[""] = max(model.opset_imports[""], _OPSET)
    model.ir_version = max(model.ir_version, _IR_VERSION)
