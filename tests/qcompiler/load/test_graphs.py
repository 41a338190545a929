"""What is wrong with a graph names the node or the value."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from qcompiler.errors import ModelError
from qcompiler.load import load_model


def _graph(
    nodes: list[onnx.NodeProto], outputs: list[str], imports: dict[str, int] | None = None
) -> onnx.ModelProto:
    def value(name: str) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None, 4])

    graph = onnx.helper.make_graph(nodes, "g", [value("x")], [value(name) for name in outputs])
    opsets = [onnx.helper.make_opsetid(*item) for item in (imports or {"": 21}).items()]
    return onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _node(op_type: str, inputs: list[str], outputs: list[str], domain: str = "") -> onnx.NodeProto:
    return onnx.helper.make_node(op_type, inputs, outputs, name=f"{op_type}_of_{outputs[0]}", domain=domain)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([_node("Add", ["x", "b"], ["a"]), _node("Relu", ["a"], ["b"])], ["cycle", "Relu_of_b"]),
        ([_node("Add", ["x", "nowhere"], ["b"])], ["Add_of_b", "'nowhere'", "nothing defines"]),
        ([_node("Relu", ["x"], ["b"]), _node("Tanh", ["x"], ["b"])], ["Tanh_of_b", "'b'", "twice"]),
        ([_node("Relu", ["x"], ["x"]), _node("Relu", ["x"], ["b"])], ["'x'", "twice"]),
        ([_node("Relu", ["x"], ["a"])], ["output 'b'"]),
        ([_node("Relux", ["x"], ["b"])], ["Relux_of_b", "unknown operator", "'Relu'"]),
        ([_node("BitwiseAnd", ["x", "x"], ["b"], "com.nobody")], ["com.nobody", "does not import"]),
    ],
)
def test_broken_graph(nodes: list[onnx.NodeProto], words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(_graph(nodes, ["b"]))
    for word in words:
        assert word in str(caught.value)


def test_unknown_domain_and_operator_of_another_opset() -> None:
    imports = {"": 13, "com.nobody": 1}
    with pytest.raises(ModelError, match=r"com.nobody::Fancy.*unknown operator"):
        load_model(_graph([_node("Fancy", ["x"], ["b"], "com.nobody")], ["b"], imports))
    with pytest.raises(ModelError, match=r"Gelu.*opset 13"):
        load_model(_graph([_node("Gelu", ["x"], ["b"])], ["b"], imports))


def test_operators_of_onnxruntime_and_functions_are_known() -> None:
    load_model(
        _graph([_node("QuickGelu", ["x"], ["b"], "com.microsoft")], ["b"], {"": 21, "com.microsoft": 1})
    )
    proto = _graph([_node("Mine", ["x"], ["b"], "local")], ["b"], {"": 21, "local": 1})
    body = [_node("Relu", ["p"], ["q"])]
    proto.functions.append(
        onnx.helper.make_function("local", "Mine", ["p"], ["q"], body, [onnx.helper.make_opsetid("", 21)])
    )
    load_model(proto)


def test_an_unsorted_graph_is_sorted() -> None:
    model = load_model(_graph([_node("Tanh", ["a"], ["b"]), _node("Relu", ["x"], ["a"])], ["b"]))
    assert [node.op_type for node in model.graph] == ["Relu", "Tanh"]


def test_subgraphs_read_from_outside_and_are_checked() -> None:
    text = """
    <ir_version: 10, opset_import: ["" : 21]>
    agraph (bool c, float[4] x) => (float[4] y)
    {
        t = Relu(x)
        y = If (c) <
            then_branch = a () => (float[4] p) { p = Tanh(t) },
            else_branch = b () => (float[4] q) { q = Abs(NAME) }
        >
    }
    """
    load_model(onnx.parser.parse_model(text.replace("NAME", "x")))
    with pytest.raises(ModelError, match="'missing', which nothing defines"):
        load_model(onnx.parser.parse_model(text.replace("NAME", "missing")))


def test_an_ir_model_that_reads_a_stray_value_is_refused() -> None:
    model = ir.from_proto(_graph([_node("Relu", ["x"], ["b"])], ["b"]))
    model.graph[0].replace_input_with(0, ir.Value(name="stray"))
    with pytest.raises(ModelError, match="'stray'"):
        load_model(model)


def test_an_unsorted_ir_model_is_refused() -> None:
    model = ir.from_proto(_graph([_node("Tanh", ["a"], ["b"]), _node("Relu", ["x"], ["a"])], ["b"]))
    with pytest.raises(ModelError, match=r"'a', which is made later.*sort"):
        load_model(model)


@pytest.mark.parametrize(
    ("node", "words"),
    [
        (onnx.helper.make_node("Relu", ["x", "x"], ["b"]), "2 inputs, expected 1"),
        (onnx.helper.make_node("Add", ["x", ""], ["b"]), "'B' is missing"),
        (onnx.helper.make_node("Concat", ["x"], ["b"]), "'axis' is missing"),
        (onnx.helper.make_node("Concat", ["x"], ["b"], axis=0.5), "'axis' is FLOAT, expected INT"),
        (onnx.helper.make_node("Concat", ["x"], ["b"], axes=1), "no attribute 'axes'. Did you mean 'axis'"),
        (onnx.helper.make_node("Constant", [], ["b"]), "0 values"),
    ],
)
def test_node_that_does_not_fit_its_schema(node: onnx.NodeProto, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(_graph([node], ["b"]))
    assert words in str(caught.value)


def test_an_unnamed_node_is_named_by_what_it_makes() -> None:
    with pytest.raises(ModelError, match=r"node 'b' \(Relux\)"):
        load_model(_graph([onnx.helper.make_node("Relux", ["x"], ["b"])], ["b"]))
