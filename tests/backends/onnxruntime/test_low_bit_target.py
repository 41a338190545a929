"""What the target says of low-bit weights before and after lowering."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

import qcompiler
from qcompiler.backends.base import NodeKey
from qcompiler.backends.onnxruntime import prefill_rows
from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.backends.onnxruntime.isa import Isa
from qcompiler.backends.onnxruntime.lower_low_bit import SMALL_WEIGHTS
from qcompiler.backends.onnxruntime.prefill_rows import USUAL_ROWS, crossing_rows
from qcompiler.graph.qdq import add_initializer
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.request import CompileOptions
from tests.backends.onnxruntime.low_bit_graphs import Case, build

LARGE = Case(k=512, n=SMALL_WEIGHTS // 512)


@pytest.mark.parametrize(
    ("ratios", "rows"),
    [
        ([0.9, 0.8, 0.7], 2),
        ([1.5, 1.2, 0.9], 8),  # crosses between 4 and 8, nearer to 8
        ([1.5, 1.01, 0.5], 4),
        ([2.0, 1.8, 1.5], 16),
    ],
)
def test_crossing_is_a_power_of_two(ratios: list[float], rows: int) -> None:
    assert crossing_rows((2, 4, 8), ratios) == rows


def test_threshold_is_measured_once_for_this_machine_and_usual_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def measured() -> int:
        asked.append(1)
        return 32

    monkeypatch.setattr(prefill_rows, "measured_prefill_rows", measured)
    for target, rows in (
        (OrtCpu(), 32),
        (OrtCpu(prefill_rows=5), 5),
        (OrtCpu(isa=Isa.ARM64), USUAL_ROWS),
    ):
        report = target.legalize(build(LARGE))
        assert f"below {rows} rows" in report.lowered[0].reason
    assert asked
    asked.clear()
    OrtCpu().legalize(build(Case()))  # no If: nothing is measured
    assert not asked


def test_refuses_groups_without_a_kernel() -> None:
    target = OrtCpu()
    assert "multiple of 16" in target.refuses(format_of("int4", group=20))
    assert target.refuses(format_of("int4", group=96)) == ""
    assert target.refuses(format_of("int4", group=0)) == ""
    assert target.refuses(format_of("nf4", group=64)) == ""


def test_kernels_of_both_branches_are_read_back(tmp_path: Path) -> None:
    model, target = build(LARGE), OrtCpu(prefill_rows=8)
    target.legalize(model)
    ir.save(model, tmp_path / "model.onnx")
    (found,) = target.kernels(tmp_path / "model.onnx", [NodeKey("product", "MatMul", ("y",))])
    assert found.kernel == "If(MatMulNBits, DynamicQuantizeMatMul)"
    assert found.integer
    with target.variants(tmp_path / "model.onnx") as paths:
        assert [path.name for path in paths] == ["model.decode.onnx", "model.prefill.onnx"]
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_models_without_an_if_have_no_variants(tmp_path: Path) -> None:
    ir.save(build(Case()), tmp_path / "model.onnx")
    with OrtCpu().variants(tmp_path / "model.onnx") as paths:
        assert paths == []


def test_the_manifest_records_the_threshold_that_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(prefill_rows, "measured_prefill_rows", lambda: 32)
    text = """<ir_version: 10, opset_import: ["": 21]>
    g (float[rows,512] x) => (float[rows,128] y) { y = MatMul (x, w) }"""
    model = ir.from_onnx_text(text)
    weight = np.random.default_rng(0).standard_normal((512, 128)).astype(np.float32)
    model.graph[0].replace_input_with(1, add_initializer(model.graph, "w", weight))
    options = CompileOptions(verify="none")
    measured = qcompiler.compile(model, "int4", output=tmp_path / "a", options=options)
    assert measured.manifest.target.options["prefill_rows"] == 32
    given = qcompiler.compile(
        model, "int4", target="ort-cpu:prefill_rows=32", output=tmp_path / "b", options=options
    )
    assert given.path.read_bytes() == measured.path.read_bytes()
    assert given.manifest.target == measured.manifest.target


def test_options_of_few_bits_have_no_effect_without_them() -> None:
    target = OrtCpu(size_first=True, per_token=False)
    assert target.legalize(build(LARGE)).without_effect == ()
    no_weights = build(LARGE)
    target.legalize(no_weights)  # now it has none of the dialect any more
    assert target.legalize(no_weights).without_effect == ("size_first", "per_token")
    assert OrtCpu().legalize(no_weights).without_effect == ()
