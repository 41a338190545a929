"""AWQ: the float output stays, weights become easier to round, and what is left alone is said."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.calibration.collect import collect
from qcompiler.low_bit.solver import Solver
from qcompiler.numerics.formats.affine import Affine
from qcompiler.passes.awq import Awq
from qcompiler.passes.integers import Int2, Int3, Int4
from qcompiler.pipeline.base import Pass, PassContext, PassReport
from qcompiler.pipeline.options import build
from tests.passes.graphs import Arrays, graph, normal

Float32 = np.ndarray[tuple[int, ...], np.dtype[np.float32]]
OUTLIERS = np.where(np.arange(64) % 16 == 3, 20.0, 1.0).astype(np.float32)
SWIGLU = """
    h = RMSNormalization <axis = -1> (x, gamma) gate = MatMul (h, w0) up = MatMul (h, w1)
    sigmoid = Sigmoid (gate) silu = Mul (gate, sigmoid) inner = Mul (silu, up) y = MatMul (inner, w2)
"""
CONSTANTS: Arrays = {
    "gamma": OUTLIERS,
    "w0": normal(64, 64, seed=1, scale=0.1),
    "w1": normal(64, 64, seed=2, scale=0.1) * OUTLIERS,
    "w2": normal(64, 16, seed=3, scale=0.1),
}
INT4 = (Int4(),)


def block(text: str = SWIGLU, constants: Arrays = CONSTANTS, outputs: str = "float[N, T, 16] y") -> ir.Model:
    header = '<ir_version: 10, opset_import: ["" : 23]>'
    return graph(f"{header} net (float[N, T, 64] x) => ({outputs}) {{ {text} }}", constants)


def feeds() -> list[dict[str, Float32]]:
    return [{"x": normal(4, 16, 64, seed=seed)} for seed in range(3)]


def awq(
    model: ir.Model,
    item: Awq | None = None,
    following: tuple[Pass, ...] = INT4,
    exclude: tuple[str, ...] = (),
) -> tuple[ir.Model, PassReport]:
    item, result = item or Awq(), model.clone()
    selected = frozenset(str(node.name) for node in model.graph.all_nodes()) - set(exclude)
    context = PassContext(result, model, selected, OrtCpu(isa=Isa.VNNI), following=following)
    statistics = collect(result, item.statistics(context), feeds())
    return result, item.apply(context, statistics)


def run(model: ir.Model) -> Float32:
    session = open_model(model, session_options(threads=1, optimize=False))
    return next(iter(session.run({"x": normal(4, 16, 64, seed=77)}).values())).astype(np.float32)


def constant(model: ir.Model, name: str) -> Float32:
    value = model.graph.initializers[name].const_value
    assert value is not None
    return value.numpy()


def rounded(model: ir.Model, bits: int = 4) -> ir.Model:
    """Every matrix as int4 in groups of 32 stands for it."""
    result, fmt = model.clone(), Affine(bits, 32)
    for name in ("w0", "w1", "w2"):
        value = result.graph.initializers[name]
        weight = constant(model, name)
        grid = fmt.fit(weight)
        value.const_value = ir.tensor(fmt.decode(fmt.encode(weight, grid), grid), name=name)
    return result


def test_the_float_output_stays_and_rounding_costs_less() -> None:
    model = block()
    after, report = awq(model, Awq(clip=False))
    assert report.count("transformed") == 3
    assert all("ratio" in decision.detail and "1/s into" in decision.detail for decision in report.nodes)
    wanted = run(model)
    # Scales are no powers of two: every constant is rounded once more, some 1e-6 of the largest.
    np.testing.assert_allclose(run(after), wanted, rtol=0, atol=1e-5 * float(np.abs(wanted).max()))
    plain, scaled = (float(np.square(run(rounded(each)) - wanted).mean()) for each in (model, after))
    assert scaled < 0.7 * plain  # four channels of 64 make nearly all of the error


def test_clipping_follows_the_solver_that_comes_next() -> None:
    model = block()
    for solver, clips in ((Solver.RTN, True), (Solver.MSE, False), (Solver.GPTQ, False)):
        _, report = awq(model, following=(Int4(solver=solver),))
        assert any("clipped" in decision.detail for decision in report.nodes) == clips, solver
    wanted = run(model)
    scaled, clipped = (awq(model, Awq(clip=clip))[0] for clip in (False, True))
    errors = [float(np.square(run(rounded(each)) - wanted).mean()) for each in (scaled, clipped)]
    assert (
        errors[1] < 1.05 * errors[0]
    )  # groups are clipped one by one, so that together they may differ a little


def test_the_format_is_that_of_the_next_pass() -> None:
    model = block()
    for item in (Int3(), Int2()):
        _, report = awq(model, following=(item,))
        assert all(f"for {item.name}" in decision.detail for decision in report.nodes)
    _, report = awq(model, following=())
    assert all("for int4" in decision.detail for decision in report.nodes)


def test_a_solver_that_corrects_errors_is_reckoned_with() -> None:
    """Scales differ from those for rounding: what other rows can make good counts for less."""
    model = block()
    plain, corrected = (
        awq(model, Awq(clip=False), (Int4(solver=each),))[0] for each in (Solver.MSE, Solver.GPTQ)
    )
    wanted = run(model)
    np.testing.assert_allclose(run(corrected), wanted, rtol=0, atol=1e-5 * float(np.abs(wanted).max()))
    assert not np.array_equal(constant(plain, "w0"), constant(corrected, "w0"))


def test_what_is_left_alone_is_said() -> None:
    text = "y = MatMul (x, w2) tanh = Tanh (y) z = MatMul (tanh, w3) other = MatMul (tanh, w3)"
    constants: Arrays = {"w2": CONSTANTS["w2"], "w3": normal(16, 8, seed=4)}
    shapes = "float[N, T, 16] y, float[N, T, 8] z, float[N, T, 8] other"
    _, report = awq(block(text, constants, shapes), Awq(clip=False))
    assert [decision.action for decision in report.nodes] == ["skipped"] * 3
    assert "a graph input" in report.nodes[0].detail
    assert "tied" in report.nodes[1].detail
    model = block()
    names = [str(node.name) for node in model.graph if node.op_type == "MatMul"]
    _, report = awq(model, exclude=(names[2],))
    assert report.nodes[2].detail == "excluded by the user"


def test_stages_are_one_behind_another() -> None:
    model = block()
    selected = frozenset(str(node.name) for node in model.graph.all_nodes())
    context = PassContext(model, model, selected, OrtCpu(isa=Isa.VNNI))
    matmuls = {str(node.name) for node in model.graph if node.op_type == "MatMul"}
    parts = [len(stage & matmuls) for stage in Awq().stages(context)]
    assert parts == [2, 1]
    assert Awq().sequential
    assert not Awq(sequential=False).sequential


def test_its_options_are_written_as_a_user_writes_them() -> None:
    item = build(Awq, {"clip": "true", "steps": "5", "sequential": "false"}, owner="pass awq")
    assert item == Awq(clip=True, steps=5, sequential=False)
    assert Awq.completed_by == "int4"
