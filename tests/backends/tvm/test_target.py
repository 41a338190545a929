"""Target tvm-cpu end to end: what is compiled computes what its dialect says, in every variant."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from qcompiler.backends.tvm import loader
from qcompiler.backends.tvm.cpu_features import MASK, Feature, Variant, host_features, runnable_variants
from qcompiler.errors import ModelError, OptionError, OutputError, UnsupportedError
from qcompiler.pipeline.parse import parse_target
from qcompiler.result import CompileResult
from tests.backends.tvm.compiled import compiled, copied, data, network
from tests.backends.tvm.kernels.running import needs_tvm
from tests.backends.tvm.kernels.tile_emulator import REAL, build_emulator, emulated, needs_tiles

pytestmark = [needs_tvm, pytest.mark.tvm]

ROWS = (1, 3, 17)
RUNNABLE = runnable_variants(host_features())


@pytest.fixture(scope="module")
def every_variant(tmp_path_factory: pytest.TempPathFactory) -> CompileResult:
    return copied(tmp_path_factory.mktemp("variants"), "int8_dynamic", "tvm-cpu")


@pytest.mark.parametrize(
    "passes", ["int8_dynamic", "int8_dynamic:granularity=token", "int8_static", "int4", "nf4"]
)
def test_every_product_is_a_kernel_and_outputs_are_the_dialects(passes: str, tmp_path: Path) -> None:
    result = copied(tmp_path, passes, "tvm-cpu:host_only=true")
    assert result.path.name == "model.qc.tvm"
    assert result.verification is not None
    (output,) = result.verification.lowering.outputs
    # Integer sums are exact; a code at a tie may fall to the other side, and 4-bit kernels round activations to 8 bits.
    assert output.sqnr_db > 33
    kernel = "GemmInt8" if passes.startswith("int8") else "GemmLowBit"
    assert {item.kernel for item in result.kernels} == {f"{kernel} ({RUNNABLE[0]})"}
    assert all(item.integer for item in result.kernels)


def test_all_variants_agree_and_masked_features_choose_another(
    every_variant: CompileResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = every_variant
    libraries = json.loads(result.path.read_text())["libraries"]
    assert [item["variant"] for item in libraries] == [str(variant) for variant in reversed(Variant)]
    found = {}
    for variant in RUNNABLE:
        monkeypatch.setenv(MASK, ",".join(variant.needs))
        session = result.session()
        assert session.model.variant == variant  # type: ignore[attr-defined]
        found[variant] = [np.asarray(session.run(data(rows))["y"], np.float32) for rows in ROWS]
    for outputs in found.values():
        for output, expected in zip(outputs, found[RUNNABLE[0]], strict=True):
            # Integer products are exact in every variant; the float parts differ in the order of a multiply and an add.
            np.testing.assert_allclose(output, expected, rtol=0, atol=1e-3 * np.abs(expected).max())
    monkeypatch.setenv(MASK, "avx3")
    with pytest.raises(ModelError, match="unknown CPU feature 'avx3'"):
        result.session()


@needs_tiles
@pytest.mark.skipif(REAL, reason="this CPU has tiles, and runs them in the test above")
def test_a_cpu_with_tiles_runs_them_and_gives_the_same(
    every_variant: CompileResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [np.asarray(every_variant.session().run(data(rows))["y"], np.float32) for rows in ROWS]
    monkeypatch.setattr(loader, "host_features", lambda _index: frozenset(Feature))
    with emulated(build_emulator(tmp_path), monkeypatch) as emulator:
        session = every_variant.session()
        assert session.model.variant == Variant.AMX_INT8  # type: ignore[attr-defined]
        for rows, floats in zip(ROWS, expected, strict=True):
            output = np.asarray(session.run(data(rows))["y"], np.float32)
            # the same integers; a multiply and an add may be contracted, and a code at a tie fall to the other side
            np.testing.assert_allclose(output, floats, rtol=0, atol=1e-3 * np.abs(floats).max())
    emulator.check()
    assert emulator.count("tdpbusd") > 0


def test_a_changed_file_is_refused_and_a_missing_one_named(tmp_path: Path) -> None:
    result = copied(tmp_path, "int4", "tvm-cpu:host_only=true")
    parameters = tmp_path / "model.qc.params"
    content = bytearray(parameters.read_bytes())
    content[100] ^= 1
    parameters.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.qc\.params is not the file that was compiled"):
        result.session()
    parameters.unlink()
    with pytest.raises(ModelError, match=r"model\.qc\.params cannot be read"):
        result.session()
    result.path.write_text("{}")
    with pytest.raises(ModelError, match="no index of a compiled model"):
        result.session()


def test_results_can_be_moved_and_their_files_are_in_the_manifest(tmp_path: Path) -> None:
    result = copied(tmp_path / "a", "int8_dynamic", "tvm-cpu:host_only=true")
    moved = result.save(tmp_path / "b")
    feed = data(5)
    np.testing.assert_array_equal(moved.session().run(feed)["y"], result.session().run(feed)["y"])
    names = {item.name for item in result.manifest.result}
    assert {"model.qc.tvm", "model.qc.params", "load_model.py", "load_model.h", "example.cc"} <= names
    assert {path.name for path in (tmp_path / "b").iterdir()} == names | {"model.qc.manifest.json"}


def test_inputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    session = copied(tmp_path, "int8_dynamic", "tvm-cpu:host_only=true").session()
    with pytest.raises(ModelError, match="no array for the input 'x'"):
        session.run({})
    with pytest.raises(ModelError, match=r"input 'x' is float64 \[2, 64\], expected float32 \['N', 64\]"):
        session.run({"x": np.zeros((2, 64))})
    with pytest.raises(ModelError, match=r"input 'x' is float32 \[2, 63\], expected float32 \['N', 64\]"):
        session.run({"x": np.zeros((2, 63), np.float32)})


def test_what_cannot_be_imported_is_named_before_anything_is_written(tmp_path: Path) -> None:
    import qcompiler

    model = network()
    relu = next(node for node in model.graph if node.op_type == "Relu")
    relu.op_type, relu.name = "Celu", "odd_one"
    with pytest.raises(UnsupportedError, match=r"'odd_one' \(Celu\).*use --target ort-cpu"):
        qcompiler.compile(model, "int8_dynamic", target="tvm-cpu", output=tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_an_onnx_file_is_no_output_of_this_target(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"does not end in \.tvm"):
        compiled(tmp_path / "model.onnx", "int8_dynamic", "tvm-cpu")


def test_options_are_checked() -> None:
    target = parse_target("tvm-cpu:mtriple=aarch64-linux-gnu")
    assert "compiled for aarch64" in target.caveat()
    assert target.untimed
    assert "none of aarch64, riscv64, x86_64" in str(parse_target("tvm-cpu:mtriple=foo-bar").available())
    assert "needs its mtriple" in str(parse_target("tvm-cpu:mcpu=cortex-a76").available())
    unknown = parse_target("tvm-cpu:mtriple=aarch64-linux-gnu:mcpu=cortex-a77777")
    with pytest.raises(
        OptionError, match=r"LLVM knows no processor 'cortex-a77777'.*Did you mean 'cortex-a7"
    ):
        unknown.require_importable(network())


def test_verification_runs_every_variant_that_this_cpu_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qcompiler.backends.tvm import target as module

    seen: list[str] = []
    original = module.TvmCpu.session

    def session(self: module.TvmCpu, path: Path, *, threads: int = 1) -> object:
        found = original(self, path, threads=threads)
        seen.append(found.model.variant)  # type: ignore[attr-defined]
        return found

    monkeypatch.setattr(module.TvmCpu, "session", session)
    compiled(tmp_path, "int8_static", "tvm-cpu")
    assert seen == [str(variant) for variant in RUNNABLE]
    assert not list(tmp_path.glob("*only*"))


def test_threads_may_share_a_model(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    session = copied(tmp_path, "int8_static", "tvm-cpu:host_only=true").session(threads=2)
    feeds = [data(rows, rows) for rows in range(1, 33)]
    expected = [session.run(feed)["y"] for feed in feeds]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda feed: session.run(feed)["y"], feeds))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)  # the same code on the same numbers


def test_inputs_of_a_type_that_tvm_has_not_are_refused_by_name() -> None:
    import onnx_ir as ir

    from qcompiler.backends.tvm.refuse import refuse

    model = network()
    model.graph.inputs.append(
        ir.Value(name="words", type=ir.TensorType(ir.DataType.STRING), shape=ir.Shape(["N"]))
    )
    with pytest.raises(UnsupportedError, match="input 'words' is STRING, which tvm-cpu takes no arrays of"):
        refuse(model)
