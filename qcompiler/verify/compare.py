"""``qcompile compare a.onnx b.onnx``: two models on the same data, per node and end to end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from qcompiler.backends.run_feed import run_feed
from qcompiler.data.feeds import Feed
from qcompiler.errors import CalibrationError, InputError, UnsupportedError
from qcompiler.package.deployed import interface, is_deployed
from qcompiler.verify.comparison import Comparison, NodeComparison, Unobserved, node_comparison
from qcompiler.verify.inside import GROUP_BYTES, compare_inside
from qcompiler.verify.metrics import Difference
from qcompiler.verify.observed import OracleModel
from qcompiler.verify.points import quantized_values, shared_points

if TYPE_CHECKING:
    from qcompiler.backends.base import Session


def compare_models(
    a: ir.Model | Path | str,
    b: ir.Model | Path | str,
    feeds: Iterable[Feed],
    *,
    threads: int = 1,
    group_bytes: int = GROUP_BYTES,
) -> Comparison:
    """Compare ``b`` with the reference ``a``.

    Per node both are run as they are written, without the runtime's optimizations: every float value of the main
    graphs that has the same name in both. End to end a file is run as a stock session runs it, and a model in
    memory as it is written. Neither model is changed.

    Args:
        a: the reference.
        b: any model with the same inputs and outputs.
        feeds: one array per input; iterated more than once.
        threads: threads within an operator.
        group_bytes: bound of the memory that observed values take; more values take more runs.

    Raises:
        InputError: different inputs or outputs.
        ModelError: a model cannot be read or loaded.
        CalibrationError: no feed, or feeds that do not fit.
    """
    repeatable = list(feeds) if isinstance(feeds, Iterator) else feeds
    if any(not isinstance(model, ir.Model) and is_deployed(model) for model in (a, b)):
        return _compare_deployed(a, b, repeatable, threads)
    oracle_a, oracle_b = (OracleModel(_loaded(model), threads=threads) for model in (a, b))
    require_same_interface(oracle_a.model, oracle_b.model)
    sessions = _end_to_end(a, oracle_a, threads), _end_to_end(b, oracle_b, threads)
    outputs, samples = compare_outputs(oracle_a.model, *sessions, repeatable)
    del sessions  # not held beside those that show what is inside
    return compare_oracles(oracle_a, oracle_b, outputs, samples, repeatable, group_bytes=group_bytes)


def _compare_deployed(
    a: ir.Model | Path | str, b: ir.Model | Path | str, feeds: Iterable[Feed], threads: int
) -> Comparison:
    """Compare outputs only: native code has no values inside to look at."""
    models = _loaded(a), _loaded(b)
    require_same_interface(*models)
    first, second = (
        _end_to_end(model, OracleModel(loaded, threads=threads), threads)
        for model, loaded in zip((a, b), models, strict=True)
    )
    outputs, samples = compare_outputs(models[0], first, second, feeds)
    return Comparison((), outputs, samples, (Unobserved("", "native code shows its outputs only"),))


def compare_oracles(
    a: OracleModel,
    b: OracleModel,
    outputs: tuple[NodeComparison, ...],
    samples: int,
    feeds: Iterable[Feed],
    *,
    group_bytes: int = GROUP_BYTES,
) -> Comparison:
    """Compare two models inside, and add that to what is known of their ``outputs`` on ``samples`` feeds."""
    points = shared_points(a.values, b.values, quantized_values(a.model), quantized_values(b.model))
    inside = [point for point in points if point.label not in {item.value for item in outputs}]
    nodes, unobserved = compare_inside(
        a, b, inside, feeds, name_of=NodeNames(a.model), group_bytes=group_bytes, allow_rescaling=True
    )
    if not inside:
        unobserved = (*unobserved, Unobserved("", "the two models have no value of the same name inside"))
    return Comparison(nodes, outputs, samples, unobserved)


def compare_outputs(
    reference: ir.Model, a: Session, b: Session, feeds: Iterable[Feed]
) -> tuple[tuple[NodeComparison, ...], int]:
    """Compare the graph outputs of two open sessions; also return the number of feeds.

    Raises:
        CalibrationError: no feed, or feeds that do not fit.
        UnsupportedError: an output is no tensor.
    """
    names = [str(value.name) for value in reference.graph.outputs]
    differences = {name: Difference() for name in names}
    is_float = dict.fromkeys(names, True)
    samples = 0
    for index, feed in enumerate(feeds):
        found_a, found_b = run_feed(a, feed, index), run_feed(b, feed, index)
        for name in names:
            array = found_a[name]
            if not isinstance(array, np.ndarray):
                raise UnsupportedError(
                    f"output {name!r} is a {type(array).__name__}, expected a tensor; end the graph before it."
                )
            is_float[name] = array.dtype.kind not in "iubOSU"
            differences[name].update(array, found_b[name])
        samples = index + 1
    if not samples:
        raise CalibrationError("there is no sample to compare on: give at least one feed.")
    node_of = NodeNames(reference)
    compared = [
        node_comparison(name, *node_of(name), differences[name], is_float=is_float[name]) for name in names
    ]
    return tuple(compared), samples


class NodeNames:
    """Name and op type of the node that makes a value; two empty strings where none does."""

    def __init__(self, model: ir.Model) -> None:
        self._nodes = {str(output.name): node for node in model.graph for output in node.outputs}

    def __call__(self, value: str) -> tuple[str, str]:
        node = self._nodes.get(value)
        return (str(node.name or ""), node.op_type) if node is not None else ("", "")


def _loaded(model: ir.Model | Path | str) -> ir.Model:
    from qcompiler.load import load_model

    if isinstance(model, ir.Model):
        return model
    return interface(Path(model)) if is_deployed(model) else load_model(model)


def _end_to_end(model: ir.Model | Path | str, oracle: OracleModel, threads: int) -> Session:
    from qcompiler.backends.onnxruntime.session import open_file, session_options

    if isinstance(model, ir.Model):
        return oracle.session([str(value.name) for value in model.graph.outputs])
    if is_deployed(model):
        from qcompiler.backends.tvm.session import TvmSession

        return TvmSession(Path(model), threads=threads)
    return open_file(Path(model), session_options(threads=threads))


def require_same_interface(a: ir.Model, b: ir.Model) -> None:
    """Refuse models that take or return something else.

    Raises:
        InputError: names what each has.
    """
    for what, names_a, names_b in (
        ("inputs", _input_names(a), _input_names(b)),
        ("outputs", [str(value.name) for value in a.graph.outputs], [str(v.name) for v in b.graph.outputs]),
    ):
        if set(names_a) != set(names_b):
            raise InputError(
                f"the models cannot be compared: the first has the {what} {_shown(names_a)}, "
                f"the second {_shown(names_b)}; give two models that take and return the same."
            )


def _input_names(model: ir.Model) -> list[str]:
    graph = model.graph
    return [str(value.name) for value in graph.inputs if value.name not in graph.initializers]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "(none)"
