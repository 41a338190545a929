"""Looking at one model for one target."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.inspect.findings import find
from qcompiler.inspect.inspection import Inspection, ValueInfo
from qcompiler.inspect.outlook import outlooks
from qcompiler.inspect.weights import float_constants, tied_weights, weight_infos
from qcompiler.prepare.report import PrepareReport
from qcompiler.tensors import stored_bytes


def inspect_model(path: Path | str, target: Target) -> Inspection:
    """Say what the model at ``path`` is made of and what could be done with it for ``target``.

    Operators are those of the file; weights are found in the prepared model, where those in Constant nodes and
    functions are within reach.

    Raises:
        ModelError: broken, truncated, hostile, or not ONNX.
    """
    from qcompiler.load import load_model
    from qcompiler.measure.size import model_size_bytes
    from qcompiler.prepare import prepare

    model = load_model(path)
    operators = dict(Counter(_operator(node) for node in model.graph.all_nodes()).most_common())
    opsets, ir_version = dict(model.opset_imports), model.ir_version
    prepared = prepare(model)
    constants = float_constants(model)
    weights = weight_infos(model, target)
    tied = tied_weights(weights)
    return Inspection(
        path=str(path),
        ir_version=ir_version,
        opsets={name or "ai.onnx": version for name, version in opsets.items()},
        producer=" ".join(filter(None, (model.producer_name, model.producer_version))),
        size_bytes=model_size_bytes(path),
        parameters=sum(tensor.size for tensor in constants.values()),
        weight_bytes=sum(stored_bytes(tensor) for tensor in constants.values()),
        inputs=tuple(_value(value) for value in model.graph.inputs),
        outputs=tuple(_value(value) for value in model.graph.outputs),
        operators=operators,
        target=target.name,
        weights=tuple(weights),
        outlook=tuple(outlooks(model, target, weights)),
        unsupported=_unsupported(model, target),
        tied=tied,
        findings=(*_of_types(prepared), *find(operators, constants, weights, tied)),
    )


def _of_types(prepared: PrepareReport) -> list[str]:
    """That 16-bit floats are computed in float32, where they are."""
    return [note for note in prepared.notes if "float16" in note]


def _operator(node: ir.Node) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def _value(value: ir.Value) -> ValueInfo:
    dtype = value.dtype.name.lower() if value.dtype is not None else "?"
    shape = (
        "unknown rank" if value.shape is None else str(list(map(_dimension, value.shape))).replace("'", "")
    )
    return ValueInfo(str(value.name), dtype, shape)


def _dimension(dim: int | ir.SymbolicDim) -> int | str:
    return dim if isinstance(dim, int) else dim.value or "?"


def _unsupported(model: ir.Model, target: Target) -> dict[str, str]:
    """Operators of which every node stays in float, with the target's reason."""
    reasons: dict[str, str] = {}
    usable: set[str] = set()
    for node in model.graph.all_nodes():
        support = target.support(node)
        if support.static or support.dynamic or support.weight_only:
            usable.add(_operator(node))
        else:
            reasons.setdefault(_operator(node), support.reason)
    return {name: reason for name, reason in reasons.items() if name not in usable}
