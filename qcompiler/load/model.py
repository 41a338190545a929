"""``load_model``: one entrance for files and for models in memory."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import onnx_ir as ir

from qcompiler.errors import ModelError, QCompilerError
from qcompiler.load.external import map_tensors
from qcompiler.load.memory import clone_model
from qcompiler.load.names import check_names
from qcompiler.load.operators import check_operators
from qcompiler.load.order import sort_nodes
from qcompiler.load.printable import check_printable
from qcompiler.load.read import read_proto
from qcompiler.load.sparse import densify
from qcompiler.load.tensors import check_tensors
from qcompiler.load.versions import check_versions


def load_model(source: str | os.PathLike[str] | onnx.ModelProto | ir.Model) -> ir.Model:
    """Return a validated model that is the caller's to change; ``source`` is never modified.

    External data stays on disk and is memory-mapped while a tensor is read, and not longer.

    Args:
        source: path of an ``.onnx`` file, or a model in memory.

    Raises:
        ModelError: broken, truncated, hostile, or not ONNX.
        UnsupportedError: valid ONNX of a version that is not known.
    """
    if isinstance(source, ir.Model):
        return _guarded("the model given", source)
    if isinstance(source, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        return _guarded("the model given", copy)
    path = Path(source)
    return _guarded(str(path), read_proto(path), folder=path.parent)


def _guarded(where: str, source: onnx.ModelProto | ir.Model, folder: Path | None = None) -> ir.Model:
    """Turn what protobuf, onnx and onnx_ir say about malformed content into one line."""
    try:
        model = (
            clone_model(where, source) if isinstance(source, ir.Model) else _convert(where, source, folder)
        )
        sort_nodes(where, model)
        check_operators(where, model)
    except QCompilerError:
        raise
    except Exception as error:
        first_line = (str(error.__cause__ or error).splitlines() or [""])[0]
        reason = first_line[:200] if first_line.isprintable() and first_line else type(error).__name__
        raise ModelError(f"{where}: the model is malformed ({reason}); export it again") from error
    return model


def _convert(where: str, proto: onnx.ModelProto, folder: Path | None) -> ir.Model:
    imports = {entry.domain: entry.version for entry in proto.opset_import}
    check_versions(where, proto.ir_version, imports.get("", imports.get("ai.onnx")))
    check_printable(where, proto)
    densify(where, proto)
    check_tensors(where, proto, folder)
    check_names(where, proto)
    model = ir.from_proto(proto)
    if folder is not None:
        for graph in (model.graph, *(function.graph for function in model.functions.values())):
            ir.external_data.set_base_dir(graph, folder)
            map_tensors(graph)
    return model
