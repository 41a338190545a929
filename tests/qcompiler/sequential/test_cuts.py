"""Segments of graphs: where they are cut, what they hand over, and that they cover everything once."""

from __future__ import annotations

from collections import Counter

import onnx_ir as ir
import pytest

from qcompiler.prepare import prepare
from qcompiler.sequential.cuts import Segment, segments
from qcompiler.sequential.stages import weighted_levels
from tests.qcompiler.graph_cases import Case, random
from tests.qcompiler.sequential.networks import residual_model


def prepared(case: Case) -> ir.Model:
    model = ir.from_proto(case.model())
    prepare(model)
    return model


def boundaries(parts: tuple[Segment, ...]) -> list[tuple[str, ...]]:
    return [part.exit for part in parts[:-1]]


def test_a_residual_stream_is_cut_once_a_block() -> None:
    model = residual_model(blocks=3)
    parts = segments(model)
    assert boundaries(parts) == [("h_1",), ("h_2",), ("h_3",)]
    assert [part.entry for part in parts] == [(), ("h_1",), ("h_2",), ("h_3",)]
    assert parts[-1].exit == ()


def test_segments_hold_every_node_once() -> None:
    model = residual_model()
    counts = Counter(name for part in segments(model) for name in part.nodes)
    assert counts == Counter(str(node.name) for node in model.graph.all_nodes())


def test_a_fused_norm_hands_over_its_norm_and_its_sum() -> None:
    skip = "SkipSimplifiedLayerNormalization"
    case = Case(
        f"h = MatMul(x, w0) a = MatMul(h, w0) n1, u1, v1, s1 = com.microsoft.{skip}(h, a, g) "
        f"b = MatMul(n1, w1) c = Relu(b) d = MatMul(c, w2) n2, u2, v2, s2 = com.microsoft.{skip}(s1, d, g) "
        "e = MatMul(n2, w1) f = Add(e, s2) y = Identity(f)",
        {"g": random(8) ** 2, **{f"w{i}": random(8, 8, seed=i) for i in range(3)}},
        inputs="float[N, 4, 8] x",
        outputs="float[N, 4, 8] y",
    )
    proto = case.model()
    proto.opset_import.add(domain="com.microsoft", version=1)
    model = ir.from_proto(proto)
    for node in model.graph:  # the runtime knows these shapes; ONNX's own inference does not
        node.name = f"{node.op_type}_{node.outputs[0].name}"
        for output in node.outputs:
            output.type = output.type or ir.TensorType(ir.DataType.FLOAT)
    assert boundaries(segments(model)) == [("h",), ("n1", "s1"), ("n2", "s2")]


def test_what_has_no_type_is_not_handed_over() -> None:
    model = residual_model()
    untyped = next(node.outputs[0] for node in model.graph if node.outputs[0].name == "h_2")
    untyped.type = None
    assert ("h_2",) not in boundaries(segments(model))


def test_a_graph_that_is_narrow_nowhere_is_one_segment() -> None:
    body = "a = MatMul(x, w0) b = MatMul(x, w1) c = MatMul(x, w2) d = Sum(a, b, c) y = Relu(d)"
    model = prepared(Case(body, {f"w{i}": random(16, 8, seed=i) for i in range(3)}))
    (part,) = segments(model)
    assert part == Segment(frozenset(str(node.name) for node in model.graph), (), ())


def test_a_second_stream_is_handed_over_where_much_lies_between() -> None:
    body = "z = MatMul(x, w) h0 = MatMul(x, w) "
    for i in range(4):
        body += f"m{i} = MatMul(h{i}, w) r{i} = Relu(m{i}) s{i} = Add(r{i}, z) h{i + 1} = Add(s{i}, h{i}) "
    body += "y = Add(h4, z)"
    model = prepared(Case(body, {"w": random(8, 8)}, inputs="float[N, 8] x"))
    assert len(segments(model)) == 1
    assert set(boundaries(segments(model, many=3))) >= {("z", f"h{i}") for i in range(1, 4)}


def test_tables_of_positions_are_computed_again_and_embeddings_are_not() -> None:
    """A table of cosines reaches no product on its own; the embedding that the first product reads does."""
    model = residual_model()
    assert boundaries(segments(model))[0] == ("h_1",)
    first, *_ = segments(model)
    assert {"Gather_h_0", "MatMul_q_0", "MatMul_k_0", "MatMul_o_0"} <= first.nodes


def test_levels_follow_the_products() -> None:
    model = residual_model()
    scope = segments(model)[1].nodes
    levels = weighted_levels(model, scope)
    assert [{name for name in level if name.startswith("MatMul")} for level in levels] == [
        {"MatMul_q_1", "MatMul_k_1"},
        {"MatMul_o_1"},
    ]
    assert frozenset().union(*levels) == scope


def test_levels_of_all_nodes_start_with_the_embedding() -> None:
    model = residual_model(blocks=1)
    levels = weighted_levels(model)
    weighted = [{name for name in level if name.split("_")[0] in ("MatMul", "Gather")} for level in levels]
    assert weighted == [{"Gather_h_0"}, {"MatMul_q_0", "MatMul_k_0"}, {"MatMul_o_0"}, {"MatMul_logits"}]


@pytest.mark.parametrize("scope", [frozenset(), frozenset({"Add_h_1"})])
def test_levels_of_a_scope_without_weights(scope: frozenset[str]) -> None:
    levels = weighted_levels(residual_model(), scope)
    assert levels == ((scope,) if scope else ())
