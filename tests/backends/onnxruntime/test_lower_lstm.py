"""The integer LSTM computes what the dialect says, but for the rounding of the hidden state."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest
from onnx.parser import parse_model
from onnx_ir.passes.common import ShapeInferencePass

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.backends.onnxruntime.lower_lstm import SMALLEST_HIDDEN, lower_lstm, refusal
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.calibration.statistics import Statistics
from qcompiler.passes.int8_dynamic import Granularity, Int8Dynamic
from qcompiler.pipeline.base import PassContext
from tests.passes.graphs import Arrays, graph

Floats = npt.NDArray[np.float32]
WIDTH, H, S, N = 24, SMALLEST_HIDDEN, 6, 3
HIDDEN_ROUNDING = 6 * 1.3e-3
"""What rounding the hidden state may change, six sigma.

It lies in (-1, 1): steps of 2/255 or less, an error of deviation 2/255/sqrt(12) = 2.3e-3. A gate adds up H of them with
weights uniform in (-1, 1)/sqrt(H), whose deviation is 1/sqrt(3 H): 1.3e-3. Three gates pass on a quarter at most, the
fourth about half of it, and a forget gate near a half lets what is carried on double: together no more than one gate.
"""


def layer_model(*, attributes: str = "", rest: str = "", directions: int = 1, hidden: int = H) -> ir.Model:
    """One LSTM named ``layer``; ``rest`` names inputs from B on: b, lens, h, c, p."""
    generator = np.random.default_rng(7)
    bound = hidden**-0.5
    d = directions
    shapes = {
        "w": (d, 4 * hidden, WIDTH),
        "r": (d, 4 * hidden, hidden),
        "b": (d, 8 * hidden),
        "p": (d, 3 * hidden),
    }
    constants: Arrays = {
        name: generator.uniform(-bound, bound, shape).astype(np.float32) for name, shape in shapes.items()
    }
    constants["lens"] = np.full(N, S, np.int32)
    used = {"w", "r", *rest.replace(" ", "").split(",")}
    model = graph(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        net (float[S, N, {WIDTH}] x, float[{d}, N, {hidden}] h, float[{d}, N, {hidden}] c)
            => (float[S, {d}, N, {hidden}] y, float[{d}, N, {hidden}] y_h, float[{d}, N, {hidden}] y_c)
        {{ y, y_h, y_c = LSTM <hidden_size = {hidden}{attributes}> (x, w, r{rest}) }}""",
        {name: array for name, array in constants.items() if name in used},
    )
    model.graph[0].name = "layer"
    return model


def quantized(model: ir.Model, item: Int8Dynamic | None = None) -> ir.Model:
    result = model.clone()
    selected = frozenset(str(node.name) for node in result.graph.all_nodes())
    context = PassContext(result, model, selected, OrtCpu(isa=Isa.VNNI))
    (item or Int8Dynamic()).apply(context, Statistics())
    return result


def lowered(dialect: ir.Model, names: list[str]) -> ir.Model:
    result = dialect.clone()
    assert lower_lstm(result) == names
    return result


def feed(model: ir.Model, sequence: int = S) -> dict[str, Floats]:
    generator = np.random.default_rng(1)
    shape = model.graph.inputs[1].shape
    assert shape is not None
    state = (int(shape[0]), N, H)  # type: ignore[arg-type]
    return {
        "x": generator.standard_normal((sequence, N, WIDTH)).astype(np.float32),
        "h": generator.uniform(-1, 1, state).astype(np.float32),
        "c": generator.standard_normal(state).astype(np.float32),
    }


def run(model: ir.Model, feeds: dict[str, Floats]) -> dict[str, Floats]:
    known = {value.name for value in model.graph.inputs}
    session = open_model(model, session_options(threads=1, optimize=False))
    outputs = session.run({name: array for name, array in feeds.items() if name in known})
    return {name: array.astype(np.float32) for name, array in outputs.items()}


def rounded(x: Floats) -> Floats:
    """DynamicQuantizeLinear and back, as the specification has it."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.asarray((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale, np.float32)


def reference(model: ir.Model, feeds: dict[str, Floats]) -> Floats:
    """Y of a forward layer whose input and hidden state are rounded, in the plainest NumPy."""
    arrays: list[npt.NDArray[np.float32]] = []
    for name in ("w", "r"):
        weight = np.asarray(model.graph.initializers[name].const_value)[0].astype(np.float32)
        scale = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
        arrays.append(np.rint(weight / scale) * scale)
    w, r = arrays
    b = np.asarray(model.graph.initializers["b"].const_value)[0].reshape(2, -1).sum(axis=0)
    x, h, c = rounded(feeds["x"]), feeds["h"][0], feeds["c"][0]
    states = []
    for step in x:
        gates = step @ w.T + rounded(h) @ r.T + b
        i, o, f, g = np.split(gates, 4, axis=1)
        sigmoid_i, sigmoid_o, sigmoid_f = (1 / (1 + np.exp(-gate)) for gate in (i, o, f))
        c = sigmoid_f * c + sigmoid_i * np.tanh(g)
        h = sigmoid_o * np.tanh(c)
        states.append(h[None])
    return np.asarray(states, np.float32)


def test_is_the_plain_algorithm_with_a_rounded_hidden_state() -> None:
    model = layer_model(rest=", b, , h, c")
    feeds = feed(model)
    seen = run(lowered(quantized(model), ["layer"]), feeds)["y"]
    error = np.abs(seen - reference(model, feeds))
    # Float rounding where no code of the hidden state flips (1e-5). A flip is one step of at most 2/255 in h,
    # which a weight of at most 0.09 carries into a gate, and a gate's slope of at most 1 into the output.
    assert np.median(error) < 1e-5
    assert error.max() < 2 / 255 * 0.09


@pytest.mark.parametrize(
    "item", [Int8Dynamic(), Int8Dynamic(per_channel=False), Int8Dynamic(Granularity.TOKEN)]
)
@pytest.mark.parametrize("rest", ["", ", b", ", b, , h, c", ", , , h"])
@pytest.mark.parametrize(
    ("attributes", "directions"),
    [("", 1), (', direction = "reverse"', 1), (', direction = "bidirectional"', 2)],
)
def test_equals_the_dialect_but_for_the_hidden_state(
    item: Int8Dynamic, rest: str, attributes: str, directions: int
) -> None:
    model = layer_model(attributes=attributes, rest=rest, directions=directions)
    dialect = quantized(model, item)
    kernel = lowered(dialect, ["layer"])
    assert [node.op_type for node in kernel.graph] == ["DynamicQuantizeLSTM"]
    exact = run(dialect, feed(model))
    for name, seen in run(kernel, feed(model)).items():
        assert np.abs(seen - exact[name]).max() < HIDDEN_ROUNDING


def test_a_first_step_from_zero_differs_by_float_rounding_alone() -> None:
    model = layer_model(rest=", b")
    dialect = quantized(model)
    feeds = feed(model, sequence=1)
    seen, exact = run(lowered(dialect, ["layer"]), feeds), run(dialect, feeds)
    # sums of 24 products of magnitude 1, in another order
    np.testing.assert_allclose(seen["y"], exact["y"], atol=1e-6)


def with_weights(text: str) -> ir.Model:
    """A model whose subgraphs read the weights ``w`` and ``r`` of the main graph."""
    proto = parse_model(text)
    tensors = [value.const_value for name, value in layer_model().graph.initializers.items() if name in "wr"]
    proto.graph.initializer.extend(ir.to_proto(tensor) for tensor in tensors if tensor is not None)
    model = ir.from_proto(proto)
    ShapeInferencePass()(model)
    for index, node in enumerate(model.graph.all_nodes()):
        node.name = f"{node.op_type}_{index}"
    return model


def test_a_layer_in_a_loop_is_lowered() -> None:
    state = f"float[S, N, {WIDTH}]"
    model = with_weights(f"""<ir_version: 10, opset_import: ["" : 21]>
    net (int64 trips, bool go, {state} x) => ({state} y)
    {{
        y = Loop (trips, go, x) <body = step (int64 i, bool before, {state} v) => (bool after, {state} u)
        {{
            after = Identity (before)
            h, h_last, c_last = LSTM <hidden_size = {H}> (v, w, r)
            axis = Constant <value_ints = [1]> ()
            flat = Squeeze (h, axis)
            first = Constant <value_ints = [0]> ()
            width = Constant <value_ints = [{WIDTH}]> ()
            last = Constant <value_ints = [-1]> ()
            u = Slice (flat, first, width, last)
        }}>
    }}""")
    names = [str(node.name) for node in model.graph.all_nodes() if node.op_type == "LSTM"]
    dialect = quantized(model)
    kernel = lowered(dialect, names)
    feeds = {"x": feed(layer_model())["x"], "trips": np.array(2), "go": np.array(True)}
    seen, exact = run(kernel, feeds)["y"], run(dialect, feeds)["y"]
    # the second trip carries on the error of the first through weights whose rows sum up to less than a gate's
    assert np.abs(seen - exact).max() < 2 * HIDDEN_ROUNDING


def test_layers_in_both_branches_share_what_they_shared() -> None:
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
    net (bool t, float[S, N, {WIDTH}] x) => (float[S, 1, N, {H}] y)
    {{
        y = If (t) <
            then_branch = then () => (float[S, 1, N, {H}] a) {{ a, ah, ac = LSTM <hidden_size = {H}> (x, w, r) }},
            else_branch = else () => (float[S, 1, N, {H}] b)
                {{ n = Neg (x)  b, bh, bc = LSTM <hidden_size = {H}> (n, w, r) }}
        >
    }}"""
    model = with_weights(text)
    names = [str(node.name) for node in model.graph.all_nodes() if node.op_type == "LSTM"]
    dialect = quantized(model)
    kernel = lowered(dialect, names)
    codes = [value for value in kernel.graph.initializers.values() if value.dtype == ir.DataType.INT8]
    assert sum(len(value.shape or ()) == 3 for value in codes) == 2
    for taken in (True, False):
        feeds = {"x": feed(layer_model())["x"], "t": np.array(taken)}
        seen, exact = run(kernel, feeds)["y"], run(dialect, feeds)["y"]
        assert np.abs(seen - exact).max() < HIDDEN_ROUNDING


def test_names_and_outputs_stay_and_a_second_run_finds_nothing() -> None:
    model = layer_model(rest=", b, , h, c")
    kernel = lowered(quantized(model), ["layer"])
    assert [value.name for value in kernel.graph.outputs] == ["y", "y_h", "y_c"]
    assert kernel.graph[0].name == "layer"
    assert lower_lstm(kernel) == []


@pytest.mark.parametrize(
    ("attributes", "rest", "hidden", "reason"),
    [
        ("", ", b, lens", H, "longest sequence"),
        ("", ", b, , h, c, p", H, "peepholes"),
        (", clip = 1.0", "", H, "clip"),
        (", input_forget = 1", "", H, "input_forget"),
        (', activations = ["Sigmoid", "Relu", "Tanh"]', "", H, "activations sigmoid, relu, tanh"),
        ("", "", H // 2, "gain nothing below"),
    ],
)
def test_what_the_kernel_cannot_or_shall_not_run_keeps_a_float_input(
    attributes: str, rest: str, hidden: int, reason: str
) -> None:
    model = layer_model(attributes=attributes, rest=rest, hidden=hidden)
    assert reason in refusal(model.graph[0])
    dialect = quantized(model)
    assert "DynamicQuantizeLinear" not in [node.op_type for node in dialect.graph]
    assert lower_lstm(dialect) == []


def test_default_activations_spelled_out_are_taken() -> None:
    assert not refusal(layer_model(attributes=', activations = ["Sigmoid", "Tanh", "Tanh"]').graph[0])


def test_an_input_that_the_dialect_leaves_float_is_not_quantized_behind_its_back() -> None:
    model = layer_model()
    dialect = quantized(model)
    layer = next(node for node in dialect.graph if node.op_type == "LSTM")
    layer.replace_input_with(0, dialect.graph.inputs[0])
    assert lower_lstm(dialect) == []
