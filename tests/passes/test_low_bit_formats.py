"""Every low-bit format as a pass: the graph computes what the numerics say, on the portable target and inlined."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import qcompiler
from qcompiler.backends.base import Target
from qcompiler.backends.onnx.portable import Onnx
from qcompiler.errors import OptionError
from qcompiler.numerics.formats.base import Format
from qcompiler.passes.weight_only import WeightOnly
from qcompiler.pipeline.registry import pass_class, pass_table
from qcompiler.request import resolve
from tests.passes.graphs import graph, normal
from tests.passes.low_bit import made, product, quantize, rounded, run

FORMATS = tuple(
    name
    for name in pass_table()
    if issubclass(pass_class(name), WeightOnly) and name not in ("gptq", "gptaq", "q4_k_m")
)
EXTRA = ("nf4:double_quantized=true", "fp8:group=32", "ternary:group=64", "nf4:group=0", "int4:solver=mse")


@pytest.mark.parametrize("rows", [24, 72, 560])
@pytest.mark.parametrize("words", [*FORMATS, *EXTRA])
def test_the_graph_computes_what_the_codes_stand_for(words: str, rows: int) -> None:
    """One short group, several with a short last one, several super-blocks with a short last one."""
    item = made(words)
    quantized, report = quantize(product(rows, 5), item)
    assert report.count("quantized") == 1
    identity = np.eye(rows, dtype=np.float32)
    # A row of the identity picks a row of the weight; scale * code - min is rounded once in float32.
    np.testing.assert_allclose(
        run(quantized, x=identity), rounded(normal(rows, 5), item), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("words", [*FORMATS, *EXTRA])
def test_a_table_of_rows_is_stored_along_its_rows(words: str) -> None:
    item = made(words)
    model = graph(
        '<ir_version: 10, opset_import: ["" : 21]> net (int64[N] ids) => (float[N, 40] y) { y = Gather (table, ids) }',
        {"table": normal(300, 40)},
    )
    quantized, _ = quantize(model, item)
    expected = rounded(np.ascontiguousarray(normal(300, 40).T), item).T
    # as above
    np.testing.assert_allclose(run(quantized, ids=np.arange(300)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("words", ["int4", "int2", "nf4:double_quantized=true", "q2_k", "q4_k_m", "mxfp4"])
def test_a_file_for_any_runtime_holds_the_bits_that_it_says(words: str, tmp_path: Path) -> None:
    options = qcompiler.CompileOptions(verify="numerics", min_cosine=-1)
    result = qcompiler.compile(
        "models/digits/digits.onnx", words, target="onnx", output=tmp_path, options=options
    )
    assert result.verification is not None
    # The file is the dialect with its functions inlined: the same operations.
    assert min(item.sqnr_db for item in result.verification.lowering.outputs) > 100
    bits = result.manifest.bits
    assert 0.9 < bits.quantized_share <= 1
    assert bits.requested <= bits.quantized < bits.requested + 1.1


def test_verification_does_not_mistake_what_the_runtime_fuses_for_the_portable_file(tmp_path: Path) -> None:
    """ONNX Runtime makes MatMulNBits of DequantizeLinear and MatMul, and by default rounds activations there."""
    options = qcompiler.CompileOptions(verify="numerics", verify_data={"x": normal(24, 256, seed=9)})
    model = graph(
        """<ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 256] x) => (float[N, 64] y) { inner = MatMul (x, w)  y = Relu (inner) }""",
        {"w": normal(256, 64)},
    )
    result = qcompiler.compile(model, "int8", target="onnx", output=tmp_path, options=options)
    assert result.verification is not None
    found = {item.value: item.sqnr_db for item in result.verification.lowering.nodes}
    assert found["inner"] > 100


def test_two_bits_take_two_bits_in_a_portable_file(tmp_path: Path) -> None:
    options = qcompiler.CompileOptions(verify="none")
    result = qcompiler.compile(
        "models/digits/digits.onnx", "int2", target="onnx", output=tmp_path, options=options
    )
    assert result.model.opset_imports[""] == 25
    # What is not quantized (biases, shapes) adds the rest.
    assert result.manifest.bits.achieved < 3.2


def test_a_transform_alone_is_completed() -> None:
    request = resolve("awq", None, "onnx", (), ())
    assert [item.name for item in request.passes] == ["awq", "int4"]
    assert "int4 was added" in request.notes[0]
    assert [item.name for item in resolve("awq,nf4", None, "onnx", (), ()).passes] == ["awq", "nf4"]


class Narrow(Onnx):
    """A target that runs nothing but groups of 128."""

    def refuses(self, stored: Format) -> str:
        return "" if stored.group == 128 else "its groups are not of 128; give group=128."


@pytest.mark.parametrize(
    ("words", "target", "reason"),
    [
        ("int4", Narrow(), "give group=128"),
        ("q4_k:solver=hqq", Onnx(), "use k_quant or mse"),
        ("nvfp4:solver=gptq:static_groups=false", Onnx(), "fitted across the whole matrix"),
        ("gptq:bits=5", Onnx(), "expected 2, 3, 4 or 8"),
        ("hqq:solver=rtn", Onnx(), "no option 'solver'"),
        ("mxfp4:group=64", Onnx(), "no option 'group'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(words: str, target: Target, reason: str) -> None:
    with pytest.raises(OptionError, match=reason):
        qcompiler.compile("/nowhere/model.onnx", words, target=target)


def test_the_mix_gives_more_bits_where_errors_cost_most() -> None:
    model = graph(
        """<ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 64] x) => (float[N, 8] logits)
        { v = MatMul (x, w1)  d = MatMul (v, w2)  logits = MatMul (d, w3) }""",
        {"w1": normal(64, 64, seed=1), "w2": normal(64, 64, seed=2), "w3": normal(64, 8, seed=3)},
    )
    names = (
        "/model/layers.2/self_attn/v_proj/MatMul",
        "/model/layers.0/self_attn/q_proj/MatMul",
        "/lm_head/MatMul",
    )
    for node, name in zip(model.graph, names, strict=True):
        node.name = name
    _, report = quantize(model, made("q4_k_m"))
    assert [item.detail.split()[0] for item in report.nodes] == ["q6_k", "q4_k", "q6_k"]
