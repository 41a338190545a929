"""Rotations while the model runs: the float output stays, integers lose less, and what is left is said."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.calibration.collect import collect
from qcompiler.errors import OptionError
from qcompiler.graph.hadamard import is_rotation, rotated
from qcompiler.numerics.hadamard import hadamard_matrix
from qcompiler.passes.hadamard import Hadamard
from qcompiler.passes.int8_dynamic import Int8Dynamic
from qcompiler.passes.int8_static import Int8Static
from qcompiler.pipeline.base import Pass, PassContext, PassReport
from qcompiler.pipeline.parse import parse_passes
from tests.passes.graphs import graph, normal
from tests.passes.low_bit import NOTHING, Array, run

WIDE, LOUD = 96, 7
FEEDS = [{"x": normal(4, 6, 32, seed=seed)} for seed in range(4)]
MLP = "p = MatMul (x, w1) s = Add (p, b1) h = Gelu (s) y = MatMul (h, w2)"


def network(body: str = MLP) -> ir.Model:
    """Hidden channel ``LOUD`` is thirty times as large as the others."""
    first = normal(32, WIDE, seed=1)
    first[:, LOUD] *= 30
    constants = {
        "w1": first,
        "w1t": np.ascontiguousarray(first.T),
        "b1": normal(WIDE, seed=2),
        "w2": normal(WIDE, 8, seed=3),
        "w3": normal(WIDE, 8, seed=4),
        "v": normal(8, 8, seed=6),
    }
    return graph(
        f"""<ir_version: 10, opset_import: ["" : 21]> net (float[N, T, 32] x) => (float[N, T, M] y) {{ {body} }}""",
        {name: array for name, array in constants.items() if re.search(rf"\b{name}\b", body)},
    )


def apply(
    model: ir.Model, *items: Pass, data: bool = False, exclude: str = ""
) -> tuple[ir.Model, PassReport]:
    """A copy with passes applied, and the report of the first."""
    result, reports = model.clone(), []
    for item in items:
        selected = frozenset(str(node.name) for node in result.graph.all_nodes()) - {exclude}
        context = PassContext(result, model, selected, OrtCpu(isa=Isa.VNNI), has_data=data)
        requests = item.statistics(context)
        reports.append(item.apply(context, collect(result, requests, FEEDS) if requests else NOTHING))
    return result, reports[0]


def outputs(model: ir.Model) -> Array:
    return np.concatenate([run(model, **feed) for feed in FEEDS])


def rotations(model: ir.Model) -> list[ir.Node]:
    return [node for node in model.graph if is_rotation(node)]


@pytest.mark.parametrize(
    "body",
    [
        MLP,
        "t = Transpose <perm = [1, 0]> (w1t) h = MatMul (x, t) y = MatMul (h, w2)",
        "h = MatMul (x, w1) a = MatMul (h, w2) b = MatMul (h, w3) y = Add (a, b)",
    ],
    ids=["mlp", "transposed", "shared"],
)
@pytest.mark.parametrize("size", [16, 64])
def test_the_float_output_stays(body: str, size: int) -> None:
    model = network(body)
    after, report = apply(model, Hadamard(size=size))
    assert report.count("transformed") == sum(node.op_type == "MatMul" for node in model.graph)
    assert len(rotations(after)) == 2
    largest = float(np.abs(outputs(model)).max())
    # The same products in float32 summed in another order, after log2(64) additions more.
    np.testing.assert_allclose(outputs(after), outputs(model), rtol=0, atol=1e-5 * largest)


def test_products_of_one_activation_share_a_rotation() -> None:
    model = network("h = Relu (x) a = MatMul (h, w1) b = MatMul (x, w1) y = Add (a, b)")
    _, report = apply(model, Hadamard())
    assert {item.detail for item in report.nodes} == {
        "its weight is tied to another node's: rotating it would untie them"
    }
    model = network("h = MatMul (x, w1) a = MatMul (h, w2) b = MatMul (h, w3) y = Add (a, b)")
    after, report = apply(model, Hadamard())
    assert "shared by 2 nodes" in report.nodes[-1].detail
    sizes = [node.attributes["size"].as_int() for node in rotations(after)]
    assert sizes == [32, 32]  # 32 and 96 channels: the largest powers of two that divide them


@pytest.mark.parametrize("quantizing", [Int8Dynamic(), Int8Static()])
def test_integers_lose_less_where_a_channel_is_loud(quantizing: Pass) -> None:
    model = network()

    def error(*items: Pass) -> float:
        return float(np.square(outputs(apply(model, *items, data=True)[0]) - outputs(model)).mean())

    assert error(Hadamard(), quantizing) < 0.5 * error(quantizing)


def test_with_data_only_what_gains_is_turned() -> None:
    after, report = apply(network(), Hadamard(gain=0.5), data=True)
    assert [item.action for item in report.nodes] == ["skipped", "transformed"]
    assert "would not help enough" in report.nodes[0].detail
    assert "output error" in report.nodes[1].detail
    assert [node.inputs[0].name for node in rotations(after) if node.inputs[0] is not None] == ["h"]


def test_gain_needs_data() -> None:
    assert Hadamard(gain=0.5).asks_for_data
    assert not Hadamard().asks_for_data


@pytest.mark.parametrize(
    ("body", "exclude", "reason"),
    [
        ("h = MatMul (x, w1) y = MatMul (h, w2)", "MatMul_0", "excluded by the user"),
        ("a = Transpose <perm = [0, 2, 1]> (x) y = MatMul (x, a)", "", "its weight is not a float constant"),
        (
            "h = MatMul (x, w1) s = MatMul (h, w2) y = MatMul (s, v)",
            "",
            "its 8 input channels are no multiple of 16",
        ),
    ],
)
def test_says_what_it_leaves(body: str, exclude: str, reason: str) -> None:
    _, report = apply(network(body), Hadamard(), exclude=exclude)
    assert reason in {item.detail for item in report.nodes}


def test_again_changes_nothing() -> None:
    once, _ = apply(network(), Hadamard())
    twice, report = apply(once, Hadamard())
    assert {item.detail for item in report.nodes} == {"its activation is rotated already"}
    assert len(rotations(twice)) == len(rotations(once))


def test_options_are_checked() -> None:
    (item,) = parse_passes("hadamard:size=32")
    assert item == Hadamard(size=32)
    for words in ("hadamard:size=48", "hadamard:size=8", "hadamard:gain=2"):
        with pytest.raises(OptionError):
            parse_passes(words)


@pytest.mark.parametrize("shape", [(2, 3, 48), (2, 0, 48), (0, 3, 48)])
def test_the_body_is_the_matrix(shape: tuple[int, ...]) -> None:
    model = graph(
        """<ir_version: 10, opset_import: ["" : 21]>
        net (float[A, B, 48] x) => (float[A, B, 48] y) { y = Identity (x) }""",
        {},
    )
    value = rotated(model, model.graph.inputs[0], 16, origin="Identity_0")
    model.graph.node("Identity_0").replace_input_with(0, value)
    x = normal(*shape)
    expected = (x.reshape(*shape[:2], 3, 16) @ hadamard_matrix(16)).reshape(shape)
    np.testing.assert_allclose(run(model, x=x), expected, atol=1e-6)  # sums of 16 float32 products
