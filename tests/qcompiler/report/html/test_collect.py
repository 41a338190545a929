"""What a page says about compiled models: it adds up, agrees with the terminal, and says what cannot be known."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import yaml

from qcompiler.data.options import DataOptions
from qcompiler.driver import compile as compile_model
from qcompiler.errors import ModelError
from qcompiler.load import load_model
from qcompiler.measure.size import model_size_bytes
from qcompiler.models.catalog import DIGITS, PYDOC_LM
from qcompiler.prepare import prepare
from qcompiler.report.facts import CompileFacts
from qcompiler.report.gather import gather
from qcompiler.report.html.collect import COPIES, collect, parts_of
from qcompiler.report.html.page import Page
from qcompiler.report.html.provenance import recipe_of
from qcompiler.report.html.sources import read_manifest, sources_of_files, sources_of_result
from qcompiler.report.html.stored_bytes import StoredTensor
from qcompiler.report.json import to_json
from qcompiler.request import CompileOptions
from qcompiler.result import CompileResult, manifest_path
from tests.qcompiler.graph_cases import Case, random


@dataclass(frozen=True)
class Compiled:
    result: CompileResult
    facts: CompileFacts
    page: Page


def silent(label: str, done: int, total: int | None) -> None:
    del label, done, total


def made(folder: Path, model: Path, passes: str, options: CompileOptions, **settings: object) -> Compiled:
    result = compile_model(model, passes, output=folder, options=options, **settings)  # type: ignore[arg-type]
    facts = gather(result, model)
    return Compiled(result, facts, collect(sources_of_result(result, facts, "qcompile ..."), silent))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return made(
        tmp_path_factory.mktemp("digits"),
        DIGITS.onnx,
        "int8_static",
        CompileOptions(verify="speed"),
        calibration=DIGITS.calibration,
        exclude=["op:Gemm"],
    )


@pytest.fixture(scope="module")
def language(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    return made(tmp_path_factory.mktemp("language"), PYDOC_LM.onnx, "int4", CompileOptions(verify="numerics"))


def test_every_byte_of_the_file_is_somewhere(digits: Compiled, language: Compiled) -> None:
    for item in (digits, language):
        assert sum(part.size_bytes for part in item.page.bytes) == model_size_bytes(item.result.path)
        assert item.page.size_after_bytes == item.facts.size_after_bytes
        assert item.page.size_before_bytes == item.facts.size_before_bytes
        owned = sum(row.size_after_bytes or 0 for row in item.page.nodes)
        assert owned == sum(part.size_bytes for part in item.page.bytes if part.node)
        rest = [part for part in item.page.bytes if not part.node]
        assert [part.format for part in rest] == ["graph and metadata"]  # no constant is without its node


def test_codes_that_are_put_together_at_load_belong_to_their_nodes(tmp_path: Path) -> None:
    """Weights of 3 bits lie in planes that a dozen nodes join: bytes of a node are its bits and little more."""
    options = CompileOptions(verify="numerics")
    item = made(tmp_path, DIGITS.onnx, "int8_static:weights=int3", options, calibration=DIGITS.calibration)
    (row,) = [row for row in item.page.nodes if row.name == "/residual/first.0/Conv"]
    weights = 48 * 48 * 9
    assert row.bits is not None
    assert (
        weights * 3 / 8 < (row.size_after_bytes or 0) < weights * row.bits / 8 + 1000
    )  # bias, scales, ranges


def test_rounded_weights_name_the_calibrator_of_their_ranges(digits: Compiled) -> None:
    assert {row.solver for row in digits.page.nodes if row.state == "integer"} == {"rtn, ranges mse"}


def test_rows_say_what_the_terminal_says(digits: Compiled, language: Compiled) -> None:
    for item in (digits, language):
        quantized = [row for row in item.page.nodes if row.state != "float"]
        assert len(quantized) == sum(found.quantized for found in item.facts.passes)
        kernels = {row.kernel for row in item.page.nodes if row.state == "integer"}
        assert kernels == {found.kernel for found in item.facts.kernels}
        assert item.page.outputs == item.facts.outputs
        assert item.page.speed == item.facts.speed
        assert item.page.warnings == item.facts.warnings
        assert item.page.hints == item.facts.hints
        assert item.page.achieved_bits == item.facts.achieved_bits


def test_a_node_left_in_float_has_its_reason(digits: Compiled) -> None:
    rows = {row.name: row for row in digits.page.nodes}
    assert rows["/classifier/Gemm"].state == "float"
    assert rows["/classifier/Gemm"].reason == "excluded by the user"
    assert rows["/classifier/Gemm"].bits == 32
    assert all(row.reason for row in digits.page.nodes if row.state == "float")


def test_formats_solvers_and_bits_are_those_of_the_pass(language: Compiled) -> None:
    quantized = [row for row in language.page.nodes if row.state == "integer"]
    assert {(row.format, row.solver, row.bits) for row in quantized} == {("int4 g32 asymmetric", "rtn", 4.62)}


def test_int8_weights_have_their_scales_counted(digits: Compiled) -> None:
    bits = [row.bits for row in digits.page.nodes if row.state == "integer" and row.bits is not None]
    assert bits
    assert all(8 < each < 16 for each in bits)  # a scale of 32 bits for 9 codes or more


def test_errors_alone_and_gathered(digits: Compiled) -> None:
    convolutions = [row for row in digits.page.nodes if row.op_type == "Conv"]
    first, last = convolutions[0], convolutions[-1]
    assert first.alone_db is not None
    # nothing but its own error has gathered at the first one; both on the same feeds, to rounding of float32
    assert first.gathered_db == pytest.approx(first.alone_db, abs=0.01)
    assert last.gathered_db is not None
    assert last.alone_db is not None
    assert last.gathered_db < last.alone_db


def test_times_of_nodes_add_up_to_a_run(digits: Compiled) -> None:
    times = digits.page.times
    assert times is not None
    for spent, other, total in (
        ([row.before_us for row in digits.page.nodes], times.before_other_us, times.before_us),
        ([row.after_us for row in digits.page.nodes], times.after_other_us, times.after_us),
    ):
        assert sum(item or 0.0 for item in spent) + other == pytest.approx(total)  # the same sum
    products = [row for row in digits.page.nodes if row.op_type in ("Conv", "Gemm")]
    assert all(row.before_us and row.after_us for row in products)


def test_histograms_cover_all_weights_and_their_ranges(digits: Compiled) -> None:
    model = load_model(DIGITS.onnx)
    prepare(model)
    weights = {item.name: item for item in digits.page.spreads if item.kind == "weight"}
    for row in digits.page.nodes:
        if row.state == "integer" and row.op_type == "Conv":
            (found,) = [item for item in weights.values() if item.node == row.name]
            tensor = model.graph.initializers[found.name].const_value
            assert tensor is not None
            values = tensor.numpy()
            assert sum(found.counts) == values.size
            assert (found.low, found.high) == (float(np.min(values)), float(np.max(values)))
            assert found.clip_low is not None
            assert found.clip_low < found.clip_high <= found.high * 1.02  # type: ignore[operator]
    activations = [item for item in digits.page.spreads if item.kind == "activation"]
    assert activations
    assert all(item.clip_high is not None for item in activations)


def test_without_the_clock_it_says_so(language: Compiled) -> None:
    assert language.page.speed is None
    assert language.page.times is None
    assert language.page.untimed == "--verify numerics leaves it out"
    assert "Time of each node: --verify numerics leaves it out." in language.page.unknown


def test_the_recipe_makes_the_same_bytes(digits: Compiled, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(recipe_of(digits.result.manifest), encoding="utf-8")
    assert yaml.safe_load(recipe.read_text())["exclude"] == ["op:Gemm"]
    again = compile_model(
        DIGITS.onnx,
        recipe=recipe,
        calibration=DIGITS.calibration,
        output=tmp_path,
        options=CompileOptions(verify="none"),
    )
    assert again.path.read_bytes() == digits.result.path.read_bytes()


def test_files_say_the_same_as_the_compile(digits: Compiled) -> None:
    options = DataOptions()
    sources = sources_of_files(
        DIGITS.onnx, digits.result.path, DIGITS.calibration, options, threads=1, timed=False
    )
    page = collect(sources, silent)
    same = (
        "place",
        "name",
        "state",
        "format",
        "solver",
        "bits",
        "size_before_bytes",
        "size_after_bytes",
        "kernel",
    )
    for one, other in zip(page.nodes, digits.page.nodes, strict=True):
        if one.state == "float":
            continue  # without a profile, the kernel of a float node is not known
        assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
    assert {item.name for item in page.spreads} == {item.name for item in digits.page.spreads}
    assert page.untimed == "--no-speed leaves it out"
    assert page.command.startswith(f"qcompile {DIGITS.onnx} --passes int8_static --calib random")
    assert "--exclude op:Gemm" in page.command
    assert [item.comparison for item in page.outputs] == ["deployed"]


def test_a_model_without_a_manifest_is_still_looked_at(digits: Compiled, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(digits.result.path.read_bytes())
    page = collect(
        sources_of_files(DIGITS.onnx, path, DIGITS.calibration, DataOptions(), threads=1, timed=True), silent
    )
    assert page.command == page.recipe == page.manifest == ""
    assert any("no manifest" in line for line in page.unknown)
    convolutions = [row for row in page.nodes if row.op_type == "Conv" and row.alone_db is not None]
    assert convolutions
    assert {row.state for row in convolutions} == {"integer"}
    assert {row.kernel for row in convolutions} == {"QLinearConv"}


def test_without_data_it_runs_on_random_numbers_and_says_so(digits: Compiled) -> None:
    page = collect(
        sources_of_files(DIGITS.onnx, digits.result.path, None, DataOptions(), threads=1, timed=False), silent
    )
    assert page.data.startswith("random numbers")


def test_a_damaged_manifest_is_refused(digits: Compiled, tmp_path: Path) -> None:
    path = tmp_path / "model.qc.onnx"
    manifest_path(path).write_text('{"versions": {}}', encoding="utf-8")
    with pytest.raises(ModelError, match="no manifest of this version"):
        read_manifest(path)


def test_a_model_in_memory_has_a_page(tmp_path: Path) -> None:
    result = compile_model(
        ir.load(DIGITS.onnx), "int8_dynamic", output=tmp_path, options=CompileOptions(verify="numerics")
    )
    page = collect(sources_of_result(result, gather(result, "memory"), ""), silent)
    assert page.model == "a model in memory"
    assert page.size_before_bytes is None
    assert page.nodes


def test_a_bound_of_memory_leaves_out_what_does_not_fit(digits: Compiled) -> None:
    sources = dataclasses.replace(
        sources_of_result(digits.result, digits.facts, ""), max_ram_bytes=1000, timed=False
    )
    page = collect(sources, silent)
    assert any("--max-ram is 1.0 kB" in line for line in page.unknown)
    assert all(row.alone_db is None for row in page.nodes)


def test_a_result_that_forgot_its_origin_says_what_to_do(digits: Compiled) -> None:
    lost = dataclasses.replace(digits.result, origin=None)
    with pytest.raises(ModelError, match="qcompile report"):
        sources_of_result(lost, digits.facts, "")


def test_pages_are_json(digits: Compiled) -> None:
    assert '"alone_db"' in to_json(digits.page)


TWO_PRODUCTS = Case(
    "[first] h = MatMul(x, w) [relu] r = Relu(h) [second] y = MatMul(r, v)",
    {"w": random(16, 64, seed=1), "v": random(64, 8, seed=2)},
)


@pytest.mark.tvm
def test_native_code_has_a_page_that_says_what_it_hides(tmp_path: Path) -> None:
    float_path = tmp_path / "small.onnx"
    onnx.save(TWO_PRODUCTS.model(), float_path)
    options = CompileOptions(verify="numerics")
    item = made(tmp_path, float_path, "int8_dynamic", options, target="tvm-cpu:host_only=true")
    rows = {row.name: row for row in item.page.nodes}
    assert rows["first"].alone_db is not None  # of the dialect
    assert rows["first"].size_after_bytes
    assert "GemmInt8" in rows["first"].kernel
    assert any(line.startswith("Time of each node: native code") for line in item.page.unknown)
    files = sources_of_files(float_path, item.result.path, None, DataOptions(), threads=1, timed=False)
    page = collect(files, silent)
    assert sum(part.size_bytes for part in page.bytes) == model_size_bytes(item.result.path)
    assert {part.format for part in page.bytes} == {"files"}
    assert len(page.unknown) == 3


def test_scales_that_another_node_reads_belong_to_their_weight(tmp_path: Path) -> None:
    """An embedding in int8 on ort-cpu: its scales are looked up by a node of their own."""
    case = Case(
        "[table] e = Gather(w, x) [product] y = MatMul(e, v)",
        {"w": random(200, 16, seed=1), "v": random(16, 8, seed=2)},
        inputs="int64[N] x",
    )
    float_path = tmp_path / "small.onnx"
    onnx.save(case.model(), float_path)
    item = made(tmp_path, float_path, "int8_dynamic", CompileOptions(verify="numerics"))
    row = next(row for row in item.page.nodes if row.name == "table")
    assert row.size_after_bytes is not None
    assert 200 * 16 + 200 * 2 <= row.size_after_bytes <= 200 * 16 + 200 * 8


def test_second_forms_of_weights_are_a_format_of_their_own() -> None:
    def constant(name: str, size_bytes: int) -> StoredTensor:
        return StoredTensor(name, ("node",), "int8", 2, size_bytes, size_bytes)

    found = parts_of(
        [],
        [
            constant("w_blocks", 4),
            constant("w_columns", 8),
            constant("w_column_scale_half", 2),
            constant("v_columns", 1),
        ],
    )
    assert {item.format: item.size_bytes for item in found} == {"int8": 5, COPIES: 10}


def test_names_that_another_quantizer_changed_are_seen_through(tmp_path: Path) -> None:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    class Feeds(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds = iter(case.samples())

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.feeds, None)

    case = TWO_PRODUCTS
    float_path, path = tmp_path / "small.onnx", tmp_path / "theirs.onnx"
    onnx.save(case.model(), float_path)
    quantize_static(float_path, path, Feeds(), quant_format=QuantFormat.QOperator)
    np.savez(tmp_path / "data.npz", x=np.concatenate([feed["x"] for feed in case.samples()]))
    sources = sources_of_files(
        float_path, path, tmp_path / "data.npz", DataOptions(batch=4), threads=1, timed=True
    )
    page = collect(sources, silent)
    rows = {row.name: row for row in page.nodes}
    for name, weight_bytes in (("first", 16 * 64), ("second", 64 * 8)):
        row = rows[name]
        assert (row.kernel, row.state) == ("QLinearMatMul", "integer")
        assert row.after_us is not None
        assert row.alone_db is not None
        assert row.size_after_bytes is not None
        assert row.size_after_bytes >= weight_bytes
