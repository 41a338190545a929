"""What a report says: facts gathered from a result, hints that follow from them, 80 columns, valid JSON."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from qcompiler.driver import compile as compile_model
from qcompiler.models.catalog import DIGITS
from qcompiler.passes.awq import Awq
from qcompiler.passes.integers import Int4
from qcompiler.pipeline.base import NodeDecision, PassReport
from qcompiler.pipeline.options import spelled
from qcompiler.report.commands import Command, Step
from qcompiler.report.facts import CompileFacts, Configured, ValueFacts
from qcompiler.report.gather import gather
from qcompiler.report.hints import hints_for
from qcompiler.report.json import to_json
from qcompiler.report.terminal import print_report
from qcompiler.report.units import counted, megabytes, shares


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> CompileFacts:
    folder = tmp_path_factory.mktemp("report")
    calibration, target = DIGITS.calibration, "onnx"
    result = compile_model(
        DIGITS.onnx,
        "int8_static",
        calibration=calibration,
        target=target,
        exclude=["op:Gemm"],
        output=folder,
    )
    return gather(result, DIGITS.onnx)


def printed(facts: CompileFacts, *, width: int = 80, terminal: bool = False) -> str:
    stream = io.StringIO()
    print_report(facts, Console(file=stream, width=width, force_terminal=terminal, markup=False))
    return stream.getvalue()


def test_every_node_is_accounted_for_once(facts: CompileFacts) -> None:
    left = {group.reason: group.nodes for group in facts.left_in_float}
    assert left["excluded by the user"] == ("/classifier/Gemm",)
    assert sum(len(nodes) for nodes in left.values()) == sum(item.skipped for item in facts.passes)
    quantized = sum(item.quantized for item in facts.passes)
    integer = sum(item.nodes for item in facts.kernels)
    assert integer + sum(len(group.nodes) for group in facts.not_integer) == quantized


def test_every_node_that_a_pass_looked_at_is_in_the_document(facts: CompileFacts) -> None:
    found = {item["name"]: item for item in json.loads(to_json(facts))["nodes"]}
    assert found["/classifier/Gemm"]["decisions"] == {"int8_static": "skipped: excluded by the user"}
    quantized = [item for item in facts.nodes if item.decisions["int8_static"].startswith("quantized")]
    assert len(quantized) == sum(item.quantized for item in facts.passes)


def test_sizes_are_those_of_the_files(facts: CompileFacts) -> None:
    assert facts.size_before_bytes == DIGITS.onnx.stat().st_size
    assert facts.size_after_bytes == Path(facts.path).stat().st_size


def test_the_terminal_report_fits_80_columns_without_colour(facts: CompileFacts) -> None:
    text = printed(facts)
    long_paths = (facts.path, facts.manifest)
    for line in text.splitlines():
        assert len(line) <= 80 or any(path in line for path in long_paths)
    assert "\x1b" not in text
    for word in ("digits.qc.onnx", "smaller", "logits", "int8_static", "excluded by the user", "Worst nodes"):
        assert word in text


def test_the_document_says_the_same(facts: CompileFacts) -> None:
    document = json.loads(to_json(facts))
    assert {"Gemm": 1} in [group["operators"] for group in document["left_in_float"]]
    assert document["outputs"][0]["sqnr_db"] == facts.outputs[0].sqnr_db
    assert document["speed"] is None


def test_json_has_no_nan() -> None:
    @dataclass(frozen=True)
    class Figures:
        values: tuple[float, ...]

    assert json.loads(to_json(Figures((math.nan, math.inf, 1.5)))) == {"values": [None, None, 1.5]}


def output(sqnr_db: float) -> ValueFacts:
    return ValueFacts("deployed", "y", "", "", sqnr_db, 0.99, 0.1, 0.0, is_float=True)


def report(name: str, op_type: str, count: int = 4) -> PassReport:
    return PassReport(
        name, tuple(NodeDecision(f"n{index}", op_type, "quantized", "") for index in range(count))
    )


@pytest.mark.parametrize(
    ("name", "op_type", "word"),
    [
        ("int8_static", "Conv", "bias_correction"),
        ("int8_dynamic", "MatMul", "smoothquant"),
        ("int8_dynamic", "Conv", "int8_static"),
    ],
)
def test_hints_follow_from_the_operators(name: str, op_type: str, word: str) -> None:
    command = Command(("m.onnx", "--passes", name), (Step(name),))
    assert any(word in hint.command for hint in hints_for([report(name, op_type)], [output(20.0)], command))


def test_a_good_result_needs_no_hint() -> None:
    assert hints_for([report("int8_dynamic", "MatMul")], [output(45.0)], Command()) == ()


@pytest.mark.parametrize(
    ("size", "text"), [(512, "512 bytes"), (45_000, "45.0 kB"), (1_234_500_000, "1,234.5 MB")]
)
def test_sizes_in_words(size: int, text: str) -> None:
    assert megabytes(size) == text


def test_counts_and_shares_in_words() -> None:
    assert counted({"Conv": 2, "Gemm": 1}) == "2 Conv, 1 Gemm"
    assert shares(1, 2) == "50 %"
    assert shares(0, 0) == "0 %"


def test_low_bit_weights_are_told_from_all_that_is_stored(facts: CompileFacts) -> None:
    low = dataclasses.replace(
        facts,
        parameters=14_200_000,
        requested_bits=4,
        quantized_bits=4.625,
        quantized_share=1.0,
        achieved_bits=12.2,
        copy_bytes=13_400_000,
    )
    text = printed(low)
    assert (
        "packed bits 4.62 a weight, scales counted (4 asked for); 100% of 14.2 M float constants"
        in " ".join(text.split())
    )
    assert "12.2 a weight, every constant in the file counted, 7.5 of them int8 copies" in " ".join(
        text.split()
    )
    assert "packed bits" not in printed(facts)


def test_the_pipeline_is_spelled_as_short_as_it_can_be(facts: CompileFacts) -> None:
    written = (Configured("int4", spelled(Int4(group=64))), Configured("awq", spelled(Awq())))
    assert "int4:group=64,awq\n" in printed(dataclasses.replace(facts, pipeline=written)).replace(" ", "")


def test_the_hint_names_the_pass_that_rounded() -> None:
    node = NodeDecision("n", "MatMul", "quantized", "nf4 g64, rtn: 4.25 bits")
    command = Command(("m.onnx", "--passes", "nf4"), (Step("nf4"),))
    (hint,) = hints_for([PassReport("nf4", (node,))], [output(20.0)], command)
    assert hint.command == "qcompile m.onnx --passes nf4:solver=gptq --calib random"
