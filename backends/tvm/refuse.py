"""What cannot be imported is told before anything long begins."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.backends.onnxruntime.fusions import fuse_all
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.importing.graph import import_graph
from qcompiler.errors import OptionError, suggest


def refuse_processor(mtriple: str, mcpu: str) -> None:
    """LLVM takes a usual processor in the place of one that it does not know.

    Raises:
        OptionError: it does not know ``mcpu``.
    """
    import tvm

    machine = tvm.target.Target({"kind": "llvm", "mtriple": mtriple})
    known = [str(name) for name in tvm.get_global_func("target.llvm_get_cpu_archlist")(machine)]
    if mcpu not in known:
        raise OptionError(f"LLVM knows no processor {mcpu!r} for {mtriple}.{suggest(mcpu, known)}")


def refuse(model: ir.Model) -> None:
    """Import the float model, without compiling it.

    Raises:
        UnsupportedError: names the node and what to do.
    """
    trial = model.clone()
    fuse_all(trial)
    import_graph(trial, Variant.PLAIN)
