"""Weights that the file holds in few bits and int8 kernels run: what is stored, what runs, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.errors import OptionError, UnsupportedError
from tests.passes.graphs import graph, normal

NUMERICS = qcompiler.CompileOptions(verify="numerics")
Feeds = list[dict[str, npt.NDArray[np.generic]]]


def network() -> ir.Model:
    """A 3x3 and a 1x1 Conv, a depthwise one between them, and a Gemm of a transposed weight."""
    return graph(
        """
        <ir_version: 10, opset_import: ["" : 18]>
        net (float[N, 32, 6, 6] x) => (float[N, 16] y)
        {
            first = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            active = Relu (first)
            second = Conv <pads = [1, 1, 1, 1], group = 64> (active, w2)
            active2 = Relu (second)
            third = Conv (active2, w3, b3)
            active3 = Relu (third)
            pooled = GlobalAveragePool (active3)
            flat = Flatten (pooled)
            y = Gemm <transB = 1> (flat, w4, b4)
        }
        """,
        {
            "w1": normal(64, 32, 3, 3, seed=1, scale=0.06),
            "b1": normal(64, seed=2, scale=0.1),
            "w2": normal(64, 1, 3, 3, seed=3, scale=0.3),
            "w3": normal(256, 64, 1, 1, seed=4, scale=0.12),
            "b3": normal(256, seed=5, scale=0.1),
            "w4": normal(16, 256, seed=6, scale=0.1),
            "b4": normal(16, seed=7),
        },
    )


def feeds() -> Feeds:
    """Pictures whose channels follow from one another."""
    mixing = normal(32, 32, seed=8, scale=0.3)
    return [{"x": np.einsum("cd,ndhw->nchw", mixing, normal(4, 32, 6, 6, seed=seed))} for seed in range(8)]


def compiled(folder: Path, passes: str, target: str = "ort-cpu") -> qcompiler.CompileResult:
    return qcompiler.compile(
        network(), passes, calibration=feeds(), target=target, output=folder, options=NUMERICS
    )


def details(result: qcompiler.CompileResult) -> dict[str, str]:
    return {decision.node: decision.detail for decision in result.passes[0].nodes}


@pytest.fixture(scope="module")
def static(tmp_path_factory: pytest.TempPathFactory) -> qcompiler.CompileResult:
    return compiled(tmp_path_factory.mktemp("static"), "int8_static:weights=int4")


def test_the_file_holds_four_bits_and_the_kernels_are_those_of_int8(
    static: qcompiler.CompileResult, tmp_path: Path
) -> None:
    wide = compiled(tmp_path, "int8_static")
    assert [kernel.kernel for kernel in static.kernels] == [kernel.kernel for kernel in wide.kernels]
    assert all(kernel.integer for kernel in static.kernels)
    stored = onnx.load(static.path).graph.initializer
    packed = {tuple(item.dims) for item in stored if item.data_type == onnx.TensorProto.UINT4}
    assert {(64, 9, 32), (256, 2, 32), (16, 8, 32)} <= packed
    wide_codes = [item for item in stored if item.data_type == onnx.TensorProto.INT8]
    assert [tuple(item.dims) for item in wide_codes if np.prod(item.dims) > 64] == [(64, 1, 3, 3)]


def test_what_it_computes_is_what_the_dialect_says(static: qcompiler.CompileResult) -> None:
    assert static.verification is not None
    assert static.verification.passed


def test_bits_are_counted_with_zero_points_ratios_and_scales(static: qcompiler.CompileResult) -> None:
    sizes = {288: 64 * 288, 64: 256 * 64, 256: 16 * 256}
    exact = sum(count * (4 + 8 / 32 + 32 / rows) for rows, count in sizes.items()) / sum(sizes.values())
    assert static.manifest.bits.requested == 4
    assert static.manifest.bits.quantized == pytest.approx(exact, abs=1e-3)  # recorded with three digits


def test_every_weight_says_how_it_is_stored_and_solved(static: qcompiler.CompileResult) -> None:
    first, second, third, last = (text for text in details(static).values() if " x " in text)
    assert first == "uint8 x int8 from int4 g32, gptq: 4.36 bits"
    assert second == (
        "uint8 x int8 weight (9 weights a channel are too few to make good each other's rounding)"
    )
    assert third == "uint8 x int8 from int4 g32, gptq: 4.75 bits"
    assert last == "uint8 x int8 from int4 g32, gptq: 4.38 bits"


@pytest.mark.parametrize(
    ("bits", "target"),
    [("int3", "ort-cpu"), ("int5", "ort-cpu"), ("int6", "ort-cpu:isa=avx2"), ("int4", "ort-cpu:isa=arm64")],
)
def test_other_widths_and_machines_have_the_same_kernels(bits: str, target: str, tmp_path: Path) -> None:
    result = compiled(tmp_path, f"int8_static:weights={bits}:group=64", target)
    assert all(kernel.integer for kernel in result.kernels)
    assert result.verification is not None
    assert result.verification.passed
    assert result.manifest.bits.quantized < int(bits[3:]) + 0.6


def test_gptq_beats_rounding_and_bias_correction_follows(tmp_path: Path) -> None:
    errors = {}
    for solver in ("rtn", "gptq", "gptq,bias_correction"):
        result = compiled(tmp_path / solver, f"int8_static:weights=int3:solver={solver}")
        assert result.verification is not None
        errors[solver] = max(item.rms_error for item in result.verification.quantization.outputs)
    assert errors["gptq"] < 0.8 * errors["rtn"]
    assert errors["gptq,bias_correction"] < errors["gptq"]


def test_dynamic_products_read_codes_that_are_widened_at_load(tmp_path: Path) -> None:
    model = graph(
        '<ir_version: 10, opset_import: ["" : 21]> net (float[N, T, 256] x) => (float[N, T, 128] y) '
        "{ h = MatMul (x, w) s = Add (h, b) r = Relu (s) y = MatMul (r, v) }",
        {
            "w": normal(256, 128, scale=0.1),
            "b": normal(128, seed=1),
            "v": normal(128, 128, seed=2, scale=0.1),
        },
    )
    data: Feeds = [{"x": normal(2, 3, 256, seed=seed)} for seed in range(4)]
    for words in ("weights=int4", "weights=int4:solver=gptq", "weights=int5:granularity=token"):
        result = qcompiler.compile(
            model, f"int8_dynamic:{words}", calibration=data, output=tmp_path / words, options=NUMERICS
        )
        assert all(kernel.integer for kernel in result.kernels), words
        assert {kernel.kernel for kernel in result.kernels} == {"DynamicQuantizeMatMul"}
        assert result.verification is not None
        assert result.verification.passed


def test_portable_models_hold_four_bits_too(tmp_path: Path) -> None:
    result = compiled(tmp_path, "int8_static:weights=int4", "onnx")
    stored = onnx.load(result.path)
    assert {node.domain for node in stored.graph.node} == {""}
    assert any(item.data_type == onnx.TensorProto.UINT4 for item in stored.graph.initializer)
    assert result.verification is not None
    assert result.verification.passed


@pytest.mark.tvm
def test_a_target_that_widens_nothing_says_that_its_files_hold_eight_bits(tmp_path: Path) -> None:
    pytest.importorskip("tvm", reason="apache-tvm is not installed")
    model = graph(
        '<ir_version: 10, opset_import: ["" : 21]> net (float[N, 128] x) => (float[N, 64] y) '
        "{ h = Gemm (x, w, b) y = Relu (h) }",
        {"w": normal(128, 64, scale=0.1), "b": normal(64, seed=1)},
    )
    data: Feeds = [{"x": normal(4, 128, seed=seed)} for seed in range(4)]
    result = qcompiler.compile(
        model,
        "int8_static:weights=int4",
        calibration=data,
        target="tvm-cpu",
        output=tmp_path,
        options=NUMERICS,
    )
    assert "in 8 bits in this target's files" in details(result)[result.kernels[0].node]
    assert result.manifest.bits.quantized > 8
    assert result.verification is not None
    assert result.verification.passed


def test_passes_side_by_side_share_one_placement(tmp_path: Path) -> None:
    """Other bits for other nodes: what is between them is quantized once, and every node is reported once."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "passes:\n"
        "  - int8_static: {exclude: [Conv_4, Gemm_8]}\n"
        "  - int8_static: {weights: int4, include: [Conv_4]}\n"
        "  - int8_static: {weights: int3, group: 64, include: [Gemm_8]}\n"
        "  - bias_correction\n"
    )
    mixed = qcompiler.compile(
        network(), recipe=recipe, calibration=feeds(), output=tmp_path / "mixed", options=NUMERICS
    )
    plain = compiled(tmp_path / "plain", "int8_static,bias_correction")
    assert [item.kernel for item in mixed.kernels] == [item.kernel for item in plain.kernels]
    operators = [
        sum(node.op_type == kind for node in onnx.load(result.path).graph.node)
        for result in (mixed, plain)
        for kind in ("QuantizeLinear", "DequantizeLinear")
    ]
    assert operators[:2] == operators[2:]
    decisions = [item for report in mixed.passes[:3] for item in report.nodes]
    assert len({item.node for item in decisions}) == len(decisions)
    found = {item.node: item.detail for item in decisions}
    assert found["Conv_0"] == "uint8 x int8 weight"
    assert found["Conv_4"].startswith("uint8 x int8 from int4 g32, gptq")
    assert found["Gemm_8"].startswith("uint8 x int8 from int3 g64, gptq")
    assert mixed.verification is not None
    assert mixed.verification.passed


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    model = graph(
        '<ir_version: 10, opset_import: ["" : 21]> net (float[N, 128] x) => (float[N, 128] y) '
        "{ h = MatMul (x, w) r = Relu (h) y = MatMul (r, w) }",
        {"w": normal(128, 128, scale=0.1)},
    )
    data: Feeds = [{"x": normal(4, 128, seed=seed)} for seed in range(4)]
    result = qcompiler.compile(
        model, "int8_static:weights=int4", calibration=data, output=tmp_path, options=NUMERICS
    )
    stored = onnx.load(result.path).graph.initializer
    assert [tuple(item.dims) for item in stored if "plane" in item.name] == [(4, 32, 128)]
    assert result.verification is not None
    assert result.verification.passed


def test_a_bias_too_large_for_the_accumulator_raises_the_scale(tmp_path: Path) -> None:
    model = graph(
        '<ir_version: 10, opset_import: ["" : 21]> net (float[N, 128] x) => (float[N, 64] y) '
        "{ h = Gemm (x, w, b) y = Relu (h) }",
        {"w": normal(128, 64, scale=0.1), "b": normal(64, seed=1)},
    )
    weight = model.graph.initializers["w"].const_value
    assert weight is not None
    array = weight.numpy().copy()
    array[:, 3] *= 1e-7
    model.graph.initializers["w"].const_value = ir.tensor(array, name="w")
    data: Feeds = [{"x": normal(4, 128, seed=seed)} for seed in range(4)]
    result = qcompiler.compile(
        model, "int8_static:weights=int4", calibration=data, output=tmp_path, options=NUMERICS
    )
    assert result.verification is not None
    assert result.verification.passed


@pytest.mark.parametrize(
    ("passes", "reason"),
    [
        ("int8_static:group=32", "add weights=int4"),
        ("int8_dynamic:solver=mse", "add weights=int4"),
        ("int8_static:weights=int4:per_channel=false", "leave out per_channel=false"),
        ("int8_static:weights=int4:clip_mse=true", "say solver=mse"),
        ("int8_dynamic:weights=int4:group=8", "expected 16 to 256"),
        ("int8_static:weights=int7", "int7"),
    ],
)
def test_contradictions_are_refused(passes: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=reason):
        compiled(tmp_path, passes)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    model = network()
    weight = model.graph.initializers["w3"].const_value
    assert weight is not None
    array = weight.numpy().copy()
    array[0] = np.nan
    model.graph.initializers["w3"].const_value = ir.tensor(array, name="w3")
    with pytest.raises(UnsupportedError, match="NaN or infinity"):
        qcompiler.compile(
            model,
            "int8_dynamic:weights=int4",
            target="onnx",
            exclude=["Conv_0"],
            output=tmp_path,
            options=qcompiler.CompileOptions(verify="none"),
        )


def test_a_weight_that_is_smaller_than_its_nodes_stays_in_eight_bits(tmp_path: Path) -> None:
    model = graph(
        '<ir_version: 10, opset_import: ["" : 21]> net (float[N, 32] x) => (float[N, 16] y) { y = MatMul (x, w) }',
        {"w": normal(32, 16)},
    )
    result = qcompiler.compile(model, "int8_dynamic:weights=int4", output=tmp_path, options=NUMERICS)
    reason = "(its 512 weights are too few for int4 to save bytes)"
    assert [decision.detail for decision in result.passes[0].nodes] == [
        f"uint8 per tensor at run time x int8 weight {reason}"
    ]
    assert result.manifest.bits.quantized == 0
