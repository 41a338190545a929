"""16-bit floats inside a model become float32; constants exactly, results but for roundings that no longer happen."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompiler.load import load_model
from qcompiler.prepare import prepare
from qcompiler.tensors import Widened
from tests.qcompiler.graph_cases import (
    NETWORK,
    NETWORK_CONSTANTS,
    THREE,
    THREE_CONSTANTS,
    Case,
    network,
    number,
)
from tests.qcompiler.half import in_half
from tests.qcompiler.prepare.running import Array, op_types, run

HALF = ir.DataType.FLOAT16


def halved(case: Case, kind: ir.DataType = HALF, *, public: bool = True) -> onnx.ModelProto:
    return ir.to_proto(in_half(ir.from_proto(case.model()), kind, public=public))


@pytest.mark.parametrize(
    "case", [Case(THREE, THREE_CONSTANTS), network(21, 10)], ids=["gemms", "convolutions"]
)
def test_outputs_stay_within_float16_rounding_and_keep_their_type(case: Case) -> None:
    source = halved(case)
    model = load_model(source)
    report = prepare(model)
    assert any("float16 is computed in float32" in note for note in report.notes)
    for sample in case.samples(3):
        feed = {name: array.astype(np.float16) for name, array in sample.items()}
        expected, found = run(source, feed)[0], run(ir.to_proto(model), feed)[0]
        assert found.dtype == expected.dtype == np.float16
        # Fewer than 10 roundings of 2^-11 relative to the largest value lie between input and output.
        limit = 10 * 2.0**-11 * float(np.abs(expected).max())
        np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), rtol=0, atol=limit)


def test_nothing_inside_is_16_bits_and_constants_are_widened_exactly() -> None:
    case = Case(THREE, THREE_CONSTANTS)
    model = load_model(halved(case))
    report = prepare(model)
    inside = [output for node in model.graph for output in node.outputs if not output.is_graph_output()]
    assert {value.dtype for value in inside} == {ir.DataType.FLOAT}
    assert report.constants_widened == len(THREE_CONSTANTS)
    for name, array in THREE_CONSTANTS.items():
        tensor = model.graph.initializers[name].const_value
        assert isinstance(tensor, Widened)
        np.testing.assert_array_equal(tensor.numpy(), array.astype(np.float16).astype(np.float32))


def test_preparing_again_changes_nothing() -> None:
    model = load_model(halved(Case(THREE, THREE_CONSTANTS)))
    prepare(model)
    before = op_types(model)
    assert prepare(model).constants_widened == 0
    assert op_types(model) == before


def test_weights_stored_in_half_behind_a_cast_are_widened_without_a_note() -> None:
    body = "wide = Cast <to = 1> (w)  y = MatMul (x, wide)"
    case = Case(body, {"w": THREE_CONSTANTS["w"].astype(np.float16)})
    model = load_model(case.model())
    report = prepare(model)
    assert op_types(model) == ["MatMul"]
    assert report.constants_widened == 1
    assert not report.notes


def test_bfloat16_is_widened_exactly() -> None:
    case = Case(THREE, THREE_CONSTANTS)
    model = load_model(halved(case, ir.DataType.BFLOAT16, public=False))
    report = prepare(model)
    assert any("bfloat16 is computed in float32" in note for note in report.notes)
    assert "Cast" not in op_types(model)
    for name, array in THREE_CONSTANTS.items():
        tensor = model.graph.initializers[name].const_value
        assert tensor is not None
        exact = array.astype(ir.DataType.BFLOAT16.numpy()).astype(np.float32)
        np.testing.assert_array_equal(tensor.numpy(), exact)


def test_subgraphs_and_attributes() -> None:
    body = """
        one = ConstantOfShape <value = float[1] {1.0}> (size)
        moved = Add (x, one)
        y = If (flag) <
            then_branch = yes () => (float[N, 16] a) { a = Mul (moved, two) },
            else_branch = no () => (float[N, 16] b) { b = Identity (moved) }
        >
    """
    constants: Mapping[str, Array] = {"size": np.array([1], np.int64), "two": number(2)}
    case = Case(body, constants, inputs="float[N, 16] x, bool flag", outputs="float[N, 16] y")
    source = halved(case)
    feed = {"x": np.arange(16, dtype=np.float16)[None], "flag": np.array(True)}
    model = load_model(source)
    prepare(model)
    # Small integers: float16 and float32 hold every result exactly.
    np.testing.assert_array_equal(run(ir.to_proto(model), feed)[0], run(source, feed)[0])
    assert {value.dtype for node in model.graph for value in node.inputs if value and value.name != "x"} <= {
        ir.DataType.FLOAT,
        ir.DataType.BOOL,
    }


def test_float64_stays_with_a_reason() -> None:
    from qcompiler.graph.weighted import weight_refusal

    case = Case(
        "y = MatMul (x, w)", {"w": np.ones((16, 8))}, inputs="double[N, 16] x", outputs="double[N, 8] y"
    )
    model = load_model(case.model())
    prepare(model)
    assert "double" in weight_refusal(next(iter(model.graph)))


def test_convolution_weights_keep_their_names() -> None:
    model = load_model(halved(network(21, 10)))
    prepare(model)
    assert {name for name in NETWORK_CONSTANTS if name.startswith("w")} <= set(model.graph.initializers)
    assert NETWORK.count("Conv") == op_types(model).count("Conv")
