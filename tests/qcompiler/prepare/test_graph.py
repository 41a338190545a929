"""Names, outputs and ties survive; constants, functions and identities are dealt with at any depth."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompiler.errors import OptionError
from qcompiler.graph.qdq import ORIGIN
from qcompiler.load import load_model
from qcompiler.prepare import prepare
from qcompiler.prepare.select import select_nodes
from tests.qcompiler.prepare.running import check_equivalent, op_types

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'
X = np.random.default_rng(5).standard_normal((2, 3)).astype(np.float32)


def _parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(text if text.startswith("<") else HEAD + text)


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("a = Relu (x) y = Identity (a) z = Tanh (a)", ["Relu", "Tanh"]),
        ("y = Identity (x) z = Relu (x)", ["Identity", "Relu"]),
        ("z = Relu (x) y = Identity (z)", ["Relu", "Identity"]),
        ("a = Relu (x) y = Identity (a) z = Identity (a)", ["Relu", "Identity"]),
        ("a = Identity (x) b = Identity (a) y = Relu (b) z = Abs (b)", ["Relu", "Abs"]),
        ("y = Constant <value = float[2] {1.0, 2.0}> () z = Relu (x)", ["Constant", "Relu"]),
        ("a = Dropout (x) y, m = Dropout (a) z = Neg (y)", ["Identity", "Neg"]),
        (
            "t = Constant <value = bool {1}> () r = Constant <value = float {0.0}> () a = Dropout (x, r, t)"
            "y = Relu (a) z = Abs (x)",
            ["Dropout", "Relu", "Abs"],
        ),
    ],
)
def test_outputs_keep_their_names_whatever_makes_them(body: str, left: list[str]) -> None:
    proto = _parse(f"g (float[A, B] x) => (float y, float z) {{ {body} }}")
    for value in proto.graph.output:
        value.type.tensor_type.shape.Clear()
        value.type.tensor_type.shape.dim.add()
        if "Constant <value = float[2]" not in body or value.name == "z":
            value.type.tensor_type.shape.dim.add()
    model, _ = check_equivalent(proto, {"x": X})
    assert [value.name for value in model.graph.outputs] == ["y", "z"]
    assert op_types(model) == left or "Dropout" in body


def test_an_initializer_that_is_an_output_stays() -> None:
    proto = _parse(
        "g (float[2, 3] x) => (float[2, 3] y, float[3] w) <float[3] w = {1.0, 2.0, 3.0}> { y = Mul (x, w) }"
    )
    check_equivalent(proto, {"x": X})


def test_names_are_unique_stable_and_remembered() -> None:
    proto = _parse(
        "g (float[2, 3] x) => (float[2, 3] y) { a = Relu (x) [n] b = Tanh (a) [n] c = Abs (b) [Relu_0] y = Neg (c) }"
    )
    model = load_model(proto)
    prepare(model)
    assert [node.name for node in model.graph] == ["Relu_0_1", "n", "n_1", "Relu_0"]
    assert all(node.metadata_props[ORIGIN] == node.name for node in model.graph)


def test_functions_are_inlined_under_the_name_of_their_call() -> None:
    proto = _parse(
        """<ir_version: 10, opset_import: ["" : 21, "local" : 1]>
        g (float[2, 3] x) => (float[2, 3] y) { [first] a = local.scale (x) [second] y = local.scale (a) }
        <domain: "local", opset_import: ["" : 21]>
        scale (i) => (o) { [two] k = Constant <value = float[3] {2.0, 3.0, 4.0}> () [mul] o = Mul (i, k) }"""
    )
    model, report = check_equivalent(proto, {"x": X})
    assert report.functions_inlined == 2
    assert op_types(model) == ["Mul", "Mul"]
    assert [str(node.name).partition("/")[0] for node in model.graph] == ["first", "second"]
    assert len(select_nodes(model, ["first/*"], [])) == 1


BRANCHES = """g (bool c, float[2, 3] x) => (float[2, 3] y)
{
    [choose] y = If (c) <
        then_branch = a () => (float[2, 3] p) {
            k = Constant <value = float[3] {1.0, 2.0, 3.0}> () s = Add (k, k) [scale] p = Mul (x, s)
        },
        else_branch = b () => (float[2, 3] q) {
            k = Constant <value = float[3] {4.0, 5.0, 6.0}> () [shift] q = Add (x, k)
        }
    >
}"""


def test_constants_in_branches_become_initializers_there() -> None:
    for flag in (True, False):
        model, report = check_equivalent(_parse(BRANCHES), {"c": np.array(flag), "x": X})
    assert report.constants_lifted == 2
    weights = [next(iter(graph.initializers.values())).const_value for graph in model.graph.subgraphs()]
    assert sorted(tensor.numpy().tolist() for tensor in weights if tensor is not None) == [
        [2, 4, 6],
        [4, 5, 6],
    ]


def test_an_if_of_constant_condition_is_its_branch() -> None:
    text = BRANCHES.replace("bool c, ", "").replace(
        "{\n    [choose]", "{ c = Constant <value = bool {1}> ()\n [choose]"
    )
    model, _ = check_equivalent(_parse(text), {"x": X})
    assert op_types(model) == ["Mul"]


def test_selection() -> None:
    model = load_model(_parse(BRANCHES))
    prepare(model)
    assert select_nodes(model, [], []) == {"choose", "scale", "shift"}
    assert select_nodes(model, ["s*"], ["op:Add"]) == {"scale"}
    assert select_nodes(model, ["op:Mul", "shift"], []) == {"scale", "shift"}
    with pytest.raises(OptionError, match=r"--exclude 'Scale' matches no node. Did you mean 'scale'\?"):
        select_nodes(model, [], ["Scale"])
    with pytest.raises(OptionError, match=r"--include 'op:Conv' matches no node"):
        select_nodes(model, ["op:Conv"], [])


def test_folding_does_not_make_the_file_larger() -> None:
    proto = _parse(
        """g (float[1000, 1000] x) => (float[1000, 1000] y) <int64[2] shape = {1000, 1000}, float one = {1.0}>
        { [zeros] z = ConstantOfShape (shape) [ones] o = Expand (one, shape) s = Add (z, o) y = Add (x, s) }"""
    )
    model, report = check_equivalent(proto, {"x": np.ones((1000, 1000), np.float32)})
    assert len(ir.to_proto(model).SerializeToString()) < 10_000
    assert any(
        note.startswith("ones (Expand) not folded: its result has 1000000 elements") for note in report.left
    )


def test_tied_weights_stay_tied() -> None:
    proto = _parse(
        """g (int64[T] x) => (float[T, V] y)
        { e = Gather (w, x) t = Transpose <perm = [1, 0]> (w) y = MatMul (e, t) }"""
    )
    table = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(table, "w"))
    model, report = check_equivalent(proto, {"x": np.arange(5)})
    assert list(model.graph.initializers) == ["w"]
    assert any("it would copy 'w'" in note for note in report.left)
    proto.graph.node[0].input[0] = "other"
    proto.graph.initializer.append(onnx.numpy_helper.from_array(table, "other"))
    model, _ = check_equivalent(proto, {"x": np.arange(5)})
    assert op_types(model) == ["Gather", "MatMul"]


def test_branches_share_what_they_derive_from_one_weight() -> None:
    proto = _parse(
        """g (bool c, float[N, 32] x) => (float[N, 64] y) {
        y = If (c) <
            then_branch = a () => (float[N, 64] p) { t = Transpose <perm = [1, 0]> (w) p = MatMul (x, t) },
            else_branch = b () => (float[N, 64] q) { n = Neg (x) u = Transpose <perm = [1, 0]> (w) q = MatMul (n, u) }
        > }"""
    )
    weight = np.random.default_rng(0).standard_normal((64, 32)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    model, _ = check_equivalent(proto, {"c": np.array(True), "x": np.ones((2, 32), np.float32)})
    assert [tuple(value.shape or ()) for value in model.graph.initializers.values()] == [(32, 64)]
    assert "Transpose" not in op_types(model)


def test_a_wrong_declared_shape_costs_only_that_value() -> None:
    proto = _parse("g (float[2, 3] x) => (float[2, 3] y) { a = Relu (x) b = Tanh (a) y = Abs (b) }")
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, [7, 7, 7]))
    model = load_model(proto)
    prepare(model)
    assert str(model.graph.outputs[0].shape) == "[2,3]"


def test_dynamic_and_empty_dimensions_survive() -> None:
    proto = _parse(
        "g (float[N, 0] x, float[N, M] w) => (float[N, M] y) { [join] y = Concat <axis = 1> (x, w) }"
    )
    model, _ = check_equivalent(proto, {"x": np.zeros((2, 0), np.float32), "w": X})
    assert [str(value.shape) for value in model.graph.inputs] == ["[N,0]", "[N,M]"]
    assert [node.name for node in model.graph] == ["join"]


def test_types_are_told_behind_operators_of_the_runtime() -> None:
    proto = _parse(
        """<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        g (float[N, 3] x) => (float[N, 3] y)
        { a = com.microsoft.QuickGelu (x) b = Relu (a) c = com.microsoft.FusedMatMul <transB = 1> (b, x) d = Tanh (c)
          y = MatMul (d, x) }"""
    )
    model, _ = check_equivalent(proto, {"x": X})
    shapes = [str(node.outputs[0].shape) for node in model.graph]
    assert shapes[:2] == ["[N,3]", "[N,3]"]
    assert all(node.outputs[0].dtype == ir.DataType.FLOAT for node in model.graph)


@pytest.mark.parametrize("opset", [7, 12, 26])
def test_opset_out_of_range(opset: int) -> None:
    with pytest.raises(OptionError, match=rf"opset {opset} is out of range"):
        prepare(load_model(_parse(BRANCHES)), opset=opset)
