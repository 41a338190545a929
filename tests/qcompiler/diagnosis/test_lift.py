"""A lifted model computes what its file says, whatever the operators are, and knows how its weights were stored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.session import OrtSession, open_model, session_options
from qcompiler.data.feeds import Array, Feed
from qcompiler.diagnosis.cut import CutModel
from qcompiler.diagnosis.lift import is_quantized_operator, lift
from qcompiler.diagnosis.match import base_names, match
from qcompiler.diagnosis.quantizers import code_values, quantizers
from qcompiler.load import load_model
from qcompiler.verify.metrics import Difference
from tests.qcompiler.diagnosis.conftest import DIGITS, DIGITS_TEST, PYDOC, PYDOC_TEST, Quantized, feeds_of

ACTIVATIONS = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


@pytest.mark.parametrize(
    ("name", "least_db"),
    [
        ("digits_qdq", 100.0),  # the same arithmetic in float32
        ("digits_qop", 60.0),  # integer kernels requantize: a code flips here and there
        ("digits_ours", 100.0),
        ("pydoc_dynamic", 40.0),  # scales of the moment follow the last bits: codes flip
        ("pydoc_nbits", 100.0),  # run without packing both compute in float32
        ("pydoc_bnb4", 100.0),
        ("pydoc_ours", 60.0),
    ],
)
def test_a_lifted_model_computes_what_the_file_says(name: str, least_db: float, quantized: Quantized) -> None:
    model = load_model(quantized(name))
    feeds = feeds_of(DIGITS_TEST if name.startswith("digits") else PYDOC_TEST, 1, 2)
    expected = _run(model, feeds)
    lifted = lift(model)
    found = _run(lifted.model, feeds)
    difference = Difference()
    difference.update(expected, found)
    assert difference.sqnr_db > least_db
    assert lifted.opaque == ()
    left = [node for node in lifted.model.graph if is_quantized_operator(node)]
    assert {node.op_type for node in left} <= set(ACTIVATIONS)
    assert lifted.stored


BRANCHES = """
<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
g (float[N, 32] x, bool few) => (float[N, 8] y)
{
    y = If (few) <
        then_branch = one () => (float[N, 8] a) {
            a = com.microsoft.MatMulNBits <K = 32, N = 8, bits = 4, block_size = 32> (x, codes, scales)
        },
        else_branch = many () => (float[N, 8] b) { b = MatMul (x, copy) }
    >
}
"""


def test_branches_by_the_number_of_rows_are_one_product() -> None:
    random = np.random.default_rng(0)
    codes = random.integers(0, 256, (8, 1, 16)).astype(np.uint8)
    scales = random.random(8).astype(np.float32)
    arrays: dict[str, Array] = {"codes": codes, "scales": scales, "copy": np.zeros((32, 8), np.float32)}
    tensors = [ir.tensor(array, name=name) for name, array in arrays.items()]
    model = ir.from_onnx_text(BRANCHES, initializers=tensors)
    for node in model.graph.all_nodes():
        node.name = str(node.outputs[0].name)
    x = random.normal(size=(3, 32)).astype(np.float32)
    expected = _session(model).run({"x": x, "few": np.array(True)})["y"]
    lifted = lift(model)
    assert {node.op_type for node in lifted.model.graph} == {"MatMul"}
    assert [note.kind for note in lifted.stored.values()] == ["int4 in blocks of 32"]
    found = _session(lifted.model).run({"x": x, "few": np.array(True)})["y"]
    difference = Difference()
    difference.update(expected, found)
    assert difference.sqnr_db > 100.0  # sums of 32 products in another order


def test_codes_that_are_moved_are_no_floats() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[2, 3] x, float scale, uint8 zero) => (float[6] y)
    {
        codes = QuantizeLinear (x, scale, zero)
        turned = Transpose (codes)
        flat = Reshape (turned, shape)
        y = DequantizeLinear (flat, scale, zero)
    }
    """
    model = ir.from_onnx_text(text, initializers=[ir.tensor([6], dtype=ir.DataType.INT64, name="shape")])
    assert {value.name for value in code_values(model)} == {"codes", "turned", "flat"}


@pytest.mark.parametrize("name", ["digits_qdq", "digits_qop", "digits_ours"])
def test_every_quantized_weight_is_found_in_the_float_model(name: str, quantized: Quantized) -> None:
    reference, lifted = load_model(DIGITS), lift(load_model(quantized(name)))
    found = match(reference, lifted.model, quantizers(lifted.model))
    products = [node.outputs[0].name for node in lifted.model.graph if node.op_type in ("Conv", "Gemm")]
    assert len(products) == 6
    assert set(products) <= set(found.pairs.values())


def test_values_are_matched_by_structure_where_every_name_is_another(quantized: Quantized) -> None:
    """Queries, keys and values read one input: their weights tell them apart."""
    reference, lifted = load_model(PYDOC), lift(load_model(quantized("pydoc_nbits")))
    public = {value.name for value in (*lifted.model.graph.inputs, *lifted.model.graph.outputs)}
    meant = {}
    for index, value in enumerate(value for node in lifted.model.graph for value in node.outputs):
        if value.name not in public:
            meant[f"renamed_{index}"] = value.name
            value.name = f"renamed_{index}"
    found = match(reference, lifted.model, quantizers(lifted.model))
    assert all(meant.get(lifted_name, lifted_name) == name for name, lifted_name in found.pairs.items())
    products = [node.outputs[0].name for node in lifted.model.graph if node.op_type == "MatMul"]
    assert len(set(products) & set(found.pairs.values())) == len(products)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("x_quantized", "x"),
        ("x_QuantizeLinear_Input", "x"),
        ("x_output_quantized_float", "x"),
        ("_quantized", "_quantized"),
    ],
)
def test_names_are_stripped_of_what_quantizers_add(name: str, base: str) -> None:
    assert base_names(name)[-1] == base
    assert base_names(name)[0] == name


def test_a_cut_model_reads_what_is_fed_and_still_makes_the_value_itself() -> None:
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[2] x) => (float[2] z) { y = Add(x, x)  z = Mul(y, y) }'
    )
    cut = CutModel(model, ["y", "z"], ["y"])
    made = cut.run({"x": np.array([1, 2], np.float32)}, {"y": np.array([5, 6], np.float32)})
    np.testing.assert_array_equal(made["y"], [2, 4])
    np.testing.assert_array_equal(made["z"], [25, 36])


def _run(model: ir.Model, feeds: Sequence[Feed]) -> Array:
    session = _session(model)
    return np.concatenate([session.run(feed)["logits"] for feed in feeds])


def _session(model: ir.Model) -> OrtSession:
    return open_model(model, session_options(threads=1, optimize=False))
