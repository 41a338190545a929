"""What cannot be imported is told before anything long begins."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.backends.onnxruntime.fusions import fuse_all
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.importing.graph import import_graph


def refuse(model: ir.Model) -> None:
    """Import the float model, without compiling it.

    Raises:
        UnsupportedError: names the node and what to do.
    """
    trial = model.clone()
    fuse_all(trial)
    import_graph(trial, Variant.PLAIN)
