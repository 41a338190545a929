"""Products by weights from codebooks, end to end: the graph as written, by ONNX Runtime, against what TVM runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from onnx_ir.passes.common import InlinePass

pytest.importorskip("tvm", reason="the extra tvm is not installed")

from qcompiler.backends.tvm.compile_kernel import target_config
from qcompiler.backends.tvm.cpu_features import Variant
from qcompiler.backends.tvm.legalize import legalize
from qcompiler.errors import UnsupportedError
from qcompiler.graph.codebook import store_channel_table, store_vectors
from qcompiler.graph.weighted import weighted_nodes
from tests.backends.tvm.compiled import data, network

pytestmark = pytest.mark.tvm

Array = npt.NDArray[Any]


def with_codebooks(kind: str) -> tuple[ir.Model, dict[str, Array]]:
    """The network with weights from random codebooks; and the weights."""
    model, random = network(), np.random.default_rng(0)
    weights: dict[str, Array] = {}
    for view in list(weighted_nodes(model)):
        rows, columns = map(int, view.matrix().shape)
        if kind == "channels":
            codes = random.integers(0, 16, (rows, columns)).astype(np.uint8)
            table = random.standard_normal((16, columns), np.float32) / np.float32(np.sqrt(rows))
            store_channel_table(model, view, codes, table)
            weights[view.name] = np.take_along_axis(table, codes.astype(np.int64), 0)
        else:
            books, length, entries = 2, 8, 40
            codes = random.integers(0, entries, (books, rows // length, columns)).astype(np.uint8)
            book = random.standard_normal((books, entries, length), np.float32) / np.float32(np.sqrt(rows))
            scale = random.uniform(0.5, 1, columns).astype(np.float32)
            store_vectors(model, view, codes, book, scale)
            vectors = np.sum([book[b][codes[b]] for b in range(books)], axis=0)
            weights[view.name] = np.asarray(vectors).transpose(0, 2, 1).reshape(rows, columns) * scale
    return model, weights


def oracle(model: ir.Model, x: Array) -> Array:
    """The graph as written, functions inlined."""
    import onnxruntime

    copy = ir.from_proto(ir.to_proto(model))
    InlinePass()(copy)
    session = onnxruntime.InferenceSession(
        ir.to_proto(copy).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x})[0])


@pytest.mark.parametrize(
    ("kind", "kernel"), [("channels", "CodebookChannels"), ("vectors", "CodebookVectors")]
)
def test_what_runs_is_what_the_graph_says(kind: str, kernel: str) -> None:
    import tvm
    from tvm import relax

    from qcompiler.backends.tvm.compile_model import compile_model

    model, _ = with_codebooks(kind)
    x = data(5)["x"]
    expected = oracle(model, x)
    report = legalize(model)
    assert [item.kernel for item in report.lowered] == [kernel] * 3
    imported, executable = compile_model(model, Variant.PLAIN, target_config(Variant.PLAIN))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    parameters = [tvm.runtime.tensor(tensor.numpy()) for tensor in imported.parameters]
    actual = machine["main"](tvm.runtime.tensor(x), parameters).numpy()
    # three products of float32 sums in another order
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["channels", "vectors"])
def test_bodies_are_what_the_formulas_say(kind: str) -> None:
    """One product alone: x is the identity, so the result is the weight."""
    model, weights = with_codebooks(kind)
    first = next(node for node in model.graph if node.name == "first")
    output = first.outputs[0]
    output.shape, output.type = ir.Shape(["N", 96]), ir.TensorType(ir.DataType.FLOAT)
    model.graph.outputs[:] = [output]
    np.testing.assert_allclose(oracle(model, np.eye(64, dtype=np.float32)), weights["first"], rtol=1e-6)


def turned_network() -> ir.Model:
    """A Gemm whose weight is stored ``[N, K]``."""
    import onnx

    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21]> net (float[M, 20] x) => (float[M, 7] y)
        { [first] y = Gemm<transB = 1>(x, w, b) }"""
    )
    random = np.random.default_rng(0)
    for name, shape in (("w", (7, 20)), ("b", (7,))):
        array = random.standard_normal(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return ir.from_proto(model)


def test_weight_that_was_stored_the_other_way_round() -> None:
    model = turned_network()
    codes = np.random.default_rng(1).integers(0, 8, (20, 7)).astype(np.uint8)
    store_channel_table(model, next(weighted_nodes(model)), codes, normal(8, 7))
    x = normal(3, 20)
    weight = np.take_along_axis(normal(8, 7), codes.astype(np.int64), 0)
    bias = model.graph.initializers["b"].const_value
    assert bias is not None
    np.testing.assert_allclose(
        oracle(model, x), x @ weight + bias.numpy(), rtol=1e-5, atol=1e-5
    )  # float32 sums
    assert [item.kernel for item in legalize(model).lowered] == ["CodebookChannels"]


def test_leaves_a_weight_that_arrives_turned() -> None:
    model = turned_network()
    view = next(weighted_nodes(model))
    codes = np.zeros((20, 7), np.uint8)
    store_channel_table(model, view, codes, normal(8, 7))
    view.node.attributes["transB"] = ir.AttrInt64("transB", 0)
    first = next(item for item in legalize(model).lowered)
    assert (first.kernel, first.reason) == ("", "its weight is looked up the other way round")


def normal(*shape: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(2).standard_normal(shape, np.float32)


def test_refuses_vectors_that_do_not_divide_the_rows() -> None:
    model = network()
    view = next(weighted_nodes(model))
    codes, book = np.zeros((1, 9, 96), np.uint8), np.zeros((1, 4, 8), np.float32)
    with pytest.raises(UnsupportedError, match="72 rows"):
        store_vectors(model, view, codes, book, np.ones(96, np.float32))
