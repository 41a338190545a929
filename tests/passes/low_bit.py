"""Running one low-bit pass on a small model, for the tests of all of them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.backends.base import Target
from qcompiler.backends.onnx.portable import Onnx
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.calibration.statistics import Statistics
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.base import PassContext, PassReport
from qcompiler.pipeline.parse import parse_passes
from tests.passes.graphs import graph, normal

Array = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
NOTHING = Statistics()
PORTABLE = Onnx()


def made(words: str) -> WeightOnly:
    """The pass that ``--passes`` words name."""
    (item,) = parse_passes(words)
    assert isinstance(item, WeightOnly)
    return item


def quantize(
    model: ir.Model,
    item: WeightOnly,
    statistics: Statistics = NOTHING,
    *,
    exclude: tuple[str, ...] = (),
    target: Target = PORTABLE,
) -> tuple[ir.Model, PassReport]:
    """A copy of ``model`` with ``item`` applied."""
    result = model.clone()
    selected = frozenset(str(node.name) for node in model.graph.all_nodes()) - set(exclude)
    return result, item.apply(PassContext(result, model, selected, target), statistics)


def run(model: ir.Model, **feed: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Array:
    """The model's first output, run as written."""
    outputs = open_model(model, session_options(threads=1, optimize=False)).run(feed)
    return next(iter(outputs.values())).astype(np.float32)


def product(rows: int = 72, columns: int = 8) -> ir.Model:
    """One MatMul."""
    return graph(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        net (float[N, {rows}] x) => (float[N, {columns}] y) {{ y = MatMul (x, w) }}""",
        {"w": normal(rows, columns)},
    )


def rounded(weights: Array, item: WeightOnly) -> Array:
    """The weight ``[K, N]`` as the numerics alone have it."""
    grid = item.stored.fit(weights, search=item.settings.search)
    return item.stored.decode(item.stored.encode(weights, grid), grid)
