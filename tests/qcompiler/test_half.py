"""Float16 models through every kind of pass, to tokens and classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.session import open_file, session_options
from qcompiler.driver import compile as compile_model
from qcompiler.errors import UnsupportedError
from qcompiler.language.decoder import Decoder
from qcompiler.language.generation import generate
from qcompiler.language.sampling import Sampling
from qcompiler.request import CompileOptions
from qcompiler.result import CompileResult
from tests.qcompiler.graph_cases import THREE, Case, network, random
from tests.qcompiler.half import in_half
from tests.qcompiler.language.tiny import VOCABULARY, save_tiny

BFLOAT16 = ir.DataType.BFLOAT16
NUMERICS = CompileOptions(verify="numerics")
PIPELINES = (
    "int4:group=32",
    "gptq:group=32",
    "awq,int4:group=32",
    "smoothquant,int8_dynamic",
    "int8_dynamic",
    "kv_int8",
)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = save_tiny(tmp_path_factory.mktemp("half") / "float.onnx", "grouped")
    half = path.with_name("model.onnx")
    ir.save(in_half(ir.load(path)), half)
    return half


def tokens() -> dict[str, np.ndarray]:
    return {"input_ids": np.random.default_rng(0).integers(0, VOCABULARY, (12, 16))}


def compiled(
    model: Path,
    passes: str,
    calibration: object = None,
    target: str = "ort-cpu",
    options: CompileOptions = NUMERICS,
) -> CompileResult:
    folder = model.parent / f"{target}-{passes}".replace(",", "-").replace(":", "-")
    return compile_model(
        model, passes, calibration=calibration, target=target, output=folder, options=options
    )


@pytest.mark.parametrize("passes", PIPELINES)
@pytest.mark.parametrize("target", ["ort-cpu", "onnx"])
def test_a_decoder_goes_through_and_generates(decoder: Path, passes: str, target: str) -> None:
    result = compiled(decoder, passes, tokens(), target)
    assert result.verification is not None
    assert result.verification.passed
    acted = [node.action for report in result.passes for node in report.nodes]
    assert "quantized" in acted or passes == "kv_int8"
    skipped = [node for report in result.passes for node in report.nodes if node.action == "skipped"]
    assert not any("float16" in node.detail for node in skipped)
    assert any("float16 is computed in float32" in warning for warning in result.warnings)
    caches = ir.load(result.path).graph.inputs[2:]
    expected = ir.DataType.INT8 if "kv_int8" in passes else ir.DataType.FLOAT16
    assert {value.dtype for value in caches} == {expected}
    text = generate(Decoder(result.path, threads=1), [3, 5, 7], Sampling(), max_tokens=4)
    assert len(text.tokens) == 4


def test_weights_left_in_float_do_not_double(decoder: Path) -> None:
    result = compiled(decoder, "kv_int8", tokens())
    # The graph around 24 kB of weights grows by a Cast for each.
    assert result.path.stat().st_size < 1.2 * decoder.stat().st_size


def test_the_cost_of_quantization_is_that_of_the_float32_model(decoder: Path) -> None:
    wide = compiled(decoder.with_name("float.onnx"), "int8_dynamic", tokens())
    half = compiled(decoder, "int8_dynamic", tokens())
    figures = [
        result.verification.deployed.outputs[0].sqnr_db for result in (wide, half) if result.verification
    ]
    # Rounding weights to 11 bits before they are rounded to 8 moves the figure by a fraction of a decibel.
    assert figures[0] == pytest.approx(figures[1], abs=1.0)


@pytest.mark.parametrize("passes", ["int8_dynamic", "int8_static", "int4:group=16"])
def test_a_classifier_keeps_its_public_types(tmp_path: Path, passes: str) -> None:
    case = network(21, 10)
    path = tmp_path / "network.onnx"
    ir.save(in_half(ir.from_proto(case.model())), path)
    feeds = [{name: array.astype(np.float16) for name, array in feed.items()} for feed in case.samples(8)]
    result = compiled(path, passes, feeds)
    assert any(node.action == "quantized" for report in result.passes for node in report.nodes)
    session = open_file(result.path, session_options(threads=1))
    assert session.run(feeds[0])["y"].dtype == np.float16


WIDE = Case(THREE, {"w": random(16, 8), "b": random(8), "w2": random(8, 8, seed=1)})


def test_bfloat16_inside_is_timed_against_float32_where_the_file_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    ir.save(in_half(ir.from_proto(WIDE.model()), BFLOAT16, public=False), path)
    result = compiled(path, "int8_dynamic", WIDE.samples(), options=CompileOptions(verify="speed"))
    assert result.speed is not None
    assert any("bfloat16 is computed in float32" in warning for warning in result.warnings)


def test_bfloat16_that_no_array_can_feed_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    ir.save(in_half(ir.from_proto(WIDE.model()), BFLOAT16), path)
    with pytest.raises(UnsupportedError, match="bfloat16"):
        compiled(path, "int8_dynamic", "random")
    written = compiled(path, "int8_dynamic", options=CompileOptions(verify="none"))
    assert ir.load(written.path).graph.inputs[0].dtype == BFLOAT16
