"""Walking a graph: every node to Relax by its converter, or an error that names the node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.importing import (
    attention,
    convolution,
    elementwise,
    hadamard,
    kernels,
    movement,
    norms,
    products,
    quantization,
    reductions,
    views,
)
from qcompiler.backends.tvm.importing.host import compute_content
from qcompiler.backends.tvm.importing.in_place import presents
from qcompiler.backends.tvm.importing.scope import STORED, Scope
from qcompiler.backends.tvm.tune import Effort
from qcompiler.errors import UnsupportedError

Converter = Callable[[Scope, ir.Node], Any]

CONVERTERS: dict[str, Converter] = {
    **elementwise.CONVERTERS,
    **views.CONVERTERS,
    **movement.CONVERTERS,
    **reductions.CONVERTERS,
    **norms.CONVERTERS,
    **attention.CONVERTERS,
    **products.CONVERTERS,
    **quantization.CONVERTERS,
    **kernels.CONVERTERS,
    **hadamard.CONVERTERS,
    **convolution.CONVERTERS,
}
"""By ``op_type``, or ``domain::op_type`` outside the standard."""

ENTRY = "main"
IN_PLACE = "main_in_place"


@dataclass(frozen=True)
class Imported:
    """A Relax module whose function ``main`` takes the graph's inputs and a tuple of parameters.

    ``main_in_place``, where it is asked for and possible, takes caches with room behind the past, writes new keys and
    values into them and returns the outputs that are left.

    Attributes:
        module: ``tvm.IRModule``.
        parameters: the tuple's tensors in order.
        limits: the largest that symbolic dimensions may be, by name.
        sums: symbolic dimensions that must be the sum of two others.
        in_place: names of the outputs that ``main_in_place`` writes into inputs; empty where there is none.
    """

    module: Any
    parameters: tuple[ir.TensorProtocol, ...]
    limits: dict[str, int]
    sums: tuple[tuple[str, str, str], ...]
    in_place: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dialect:
    """Which operators a target imports, and how.

    Attributes:
        target: its name, for messages.
        converters: by ``op_type``, or ``domain::op_type`` outside the standard.
    """

    target: str = "tvm-cpu"
    converters: Mapping[str, Converter] = field(default_factory=lambda: CONVERTERS)


def import_graph(
    model: ir.Model,
    variant: Variant,
    tune: Effort = Effort.NONE,
    dialect: Dialect | None = None,
    *,
    in_place: bool = False,
) -> Imported:
    """Turn a graph into Relax, with kernels of ``variant`` whose tiles are timed as ``tune`` says.

    Args:
        model: lowered.
        variant: of the kernels.
        tune: how many tiles of each are timed.
        dialect: operators of another target than tvm-cpu.
        in_place: make ``main_in_place``, too, where the graph allows it.

    Raises:
        UnsupportedError: names the first node that cannot be imported, why, and what to do.
    """
    from tvm import relax

    dialect = dialect or Dialect()
    builder = relax.BlockBuilder()
    scope = Scope(builder, variant.vectors, variant, tune=tune)
    _function(scope, model.graph, dialect, ENTRY, list(model.graph.outputs))
    written = presents(model.graph) if in_place else []
    if written:
        left = [value for value in model.graph.outputs if value not in written]
        again = Scope(builder, variant.vectors, variant, tune=tune, functions=scope.functions, in_place=True)
        _function(again, model.graph, dialect, IN_PLACE, left)
        assert list(again.parameters) == list(scope.parameters)
    module = relax.transform.BundleModelParams()(builder.get())
    parameters = tuple(tensor for _, tensor in scope.parameters.values())
    names = tuple(str(value.name) for value in written)
    return Imported(module, parameters, scope.limits, tuple(sorted(scope.sums)), names)


def _function(
    scope: Scope, graph: ir.Graph, dialect: Dialect, name: str, outputs: Sequence[ir.Value]
) -> None:
    from tvm import relax

    inputs = [_input(scope, value, dialect.target) for value in graph.inputs]
    with scope.builder.function(name, attrs={"num_input": len(inputs)}):
        results = _body(scope, graph, dialect, outputs)
        scope.builder.emit_func_output(
            results[0] if len(results) == 1 else relax.Tuple(results),
            params=[*inputs, *(variable for variable, _ in scope.parameters.values())],
        )


def _body(scope: Scope, graph: ir.Graph, dialect: Dialect, outputs: Sequence[ir.Value]) -> list[Any]:
    """The outputs, made by all nodes in one dataflow block."""
    try:
        with scope.builder.dataflow():
            for node in graph:
                _convert(scope, node, dialect)
            return [scope.builder.emit_output(scope.tensor(value)) for value in outputs]
    except UnsupportedError:
        scope.builder._end_block()  # or TVM writes a warning about it to stderr
        raise


def _input(scope: Scope, value: ir.Value, target: str) -> Any:
    from tvm import relax, tirx

    if value.shape is None or value.dtype is None:
        raise UnsupportedError(
            f"input {value.name!r} has no shape; export the model with shapes, symbolic ones at least."
        )
    if value.dtype.numpy().name not in STORED:
        raise UnsupportedError(
            f"input {value.name!r} is {value.dtype.name}, which {target} takes no arrays of; use --target ort-cpu."
        )
    dims = []
    for index, size in enumerate(value.shape):
        if isinstance(size, int):
            dims.append(tirx.IntImm("int64", size))
            continue
        name = str(size.value or f"{value.name}_{index}")
        dims.append(scope.symbols.setdefault(name, tirx.Var(_identifier(name), "int64")))
    variable = relax.Var(_identifier(str(value.name)), relax.TensorType(dims, value.dtype.numpy().name))
    scope.exprs[value] = variable
    return variable


def _identifier(name: str) -> str:
    found = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name)
    return found if found and not found[0].isdigit() else f"_{found}"


def operator_of(node: ir.Node) -> str:
    """As converters are found."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _convert(scope: Scope, node: ir.Node, dialect: Dialect) -> None:
    converter = dialect.converters.get(operator_of(node))
    try:
        if compute_content(scope, node):
            return
        if converter is None:
            raise UnsupportedError(
                f"{operator_of(node)} is not among its {len(dialect.converters)} operators"
            )
        made = converter(scope, node)
        for value, expr in zip(node.outputs, made if isinstance(made, list) else [made], strict=False):
            scope.exprs[value] = scope.emit(expr)
            scope.shape(scope.exprs[value])
    except UnsupportedError as error:
        raise UnsupportedError(_message(dialect.target, node, str(error))) from error
    except Exception as error:  # TVM's own errors share no base class but this one
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1][:200]
        raise UnsupportedError(_message(dialect.target, node, f"TVM refuses it: {reason}")) from error


def _message(target: str, node: ir.Node, reason: str) -> str:
    operator = operator_of(node)
    return (
        f"{target} cannot import node {node.name!r} ({operator}): {reason.rstrip('.')}; use --target ort-cpu."
    )
