"""What the user should know about a result, and that --strict makes it an error."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import cast

import pytest

from qcompiler.backends.base import Lowering, NodeKernel
from qcompiler.build import Build
from qcompiler.data import FeedSource
from qcompiler.errors import VerificationError
from qcompiler.findings import find_warnings, refuse_if_strict
from qcompiler.passes.int8_dynamic import Int8Dynamic
from qcompiler.passes.kv_int8 import KvInt8
from qcompiler.passes.smoothquant import SmoothQuant
from qcompiler.pipeline.base import NodeDecision, Pass, PassReport
from qcompiler.prepare import PrepareReport
from qcompiler.samples import Samples
from qcompiler.verify.speed import SpeedCheck
from tests.qcompiler.stand_ins import StandInPipeline, made, timing

FLOAT_KERNEL = NodeKernel("a", "MatMul", integer=False)


def warnings(
    built: Build,
    *,
    passes: Sequence[Pass] = (Int8Dynamic(),),
    notes: tuple[str, ...] = (),
    left: tuple[str, ...] = (),
    data: tuple[str, ...] = (),
    speed: SpeedCheck | None = None,
) -> tuple[str, ...]:
    prepared = PrepareReport(21, 21, 1, 1, (), 0, 0, 0, 0, 0, notes, left)
    samples = Samples(None, cast(FeedSource, []), "", data)
    return find_warnings(built, StandInPipeline(tuple(passes)).as_pipeline(), prepared, samples, speed)


def test_a_good_result_has_none() -> None:
    kernel = NodeKernel("a", "DynamicQuantizeMatMul", integer=True)
    assert warnings(made(quantized=("a",), kernels=(kernel,)), speed=timing(2.0)) == ()


def test_shortfalls_of_data_and_model_are_passed_on_and_left_nodes_are_not() -> None:
    assert warnings(
        made(quantized=("a",)), notes=("opset stays",), left=("x not folded",), data=("few",)
    ) == (
        "few",
        "opset stays",
    )


def test_a_pass_that_finds_nothing_left_is_named() -> None:
    built = made(quantized=("a",))
    second = PassReport(
        "int8_dynamic", (NodeDecision("a", "MatMul", "skipped", "its weight is quantized already"),)
    )
    (warning,) = warnings(dataclasses.replace(built, passes=(*built.passes, second)))
    assert warning == "int8_dynamic changed nothing: its weight is quantized already."


def test_the_second_of_two_equal_passes_is_named_too() -> None:
    built = made(quantized=("a",))
    found = warnings(dataclasses.replace(built, passes=(*built.passes, PassReport("int8_dynamic", ()))))
    assert found == ("int8_dynamic changed nothing: no node is of its kind, or float any more.",)


def test_options_of_the_target_that_nothing_is_subject_to_are_named() -> None:
    built = made(quantized=("a",))
    report = dataclasses.replace(built.legalized, without_effect=("size_first",))
    (warning,) = warnings(dataclasses.replace(built, legalized=report))
    assert warning == "target option size_first has no effect: no product has weights of few bits."


def test_a_cache_in_int8_is_no_shortfall() -> None:
    cache = PassReport("kv_int8", (NodeDecision("a", "GroupQueryAttention", "transformed", "int8 cache"),))
    assert warnings(dataclasses.replace(made(), passes=(cache,)), passes=(KvInt8(),)) == ()


@pytest.mark.parametrize(
    ("passes", "words"),
    [((Int8Dynamic(),), "no node was quantized"), ((SmoothQuant(),), "no pass changed anything")],
)
def test_nothing_done_is_said(passes: tuple[Pass, ...], words: str) -> None:
    (warning,) = warnings(made(), passes=passes)
    assert words in warning


def test_reverted_and_mended_nodes_are_named_a_few_of_them() -> None:
    nodes = tuple(f"n{index}" for index in range(7))
    reverted, mended = warnings(made(quantized=(*nodes, "kept"), reverted=nodes, mended=("w",)))
    assert "'n0', 'n1', 'n2', 'n3' and 3 more" in reverted
    assert "'w'" in mended


def test_still_slower_than_float_is_said() -> None:
    (warning,) = warnings(made(quantized=("a",)), speed=timing(0.5))
    assert warning.startswith("0.50x the speed of float")


def test_a_float_kernel_under_a_quantized_node_is_a_surprise() -> None:
    (warning,) = warnings(made(quantized=("a",), kernels=(FLOAT_KERNEL,)))
    assert "'a'" in warning


@pytest.mark.parametrize(
    "built",
    [
        made(quantized=("a",), kernels=(FLOAT_KERNEL,), stored_only=True),
        made(quantized=("a",), kernels=(FLOAT_KERNEL,), lowered=(Lowering("a", ""),)),
        made(quantized=("a",), kernels=(NodeKernel("a", "MatMul", integer=False, note="fused"),)),
        made(quantized=("a",), kernels=(NodeKernel("a", "", integer=False),)),
    ],
)
def test_a_float_kernel_that_was_meant_is_none(built: Build) -> None:
    assert warnings(built) == ()


def test_strict_fails_on_the_first_and_counts_the_rest() -> None:
    with pytest.raises(VerificationError, match=r"^--strict: a \(2 more\)$"):
        refuse_if_strict(("a", "b", "c"), strict=True)
    with pytest.raises(VerificationError, match=r"^--strict: a$"):
        refuse_if_strict(("a",), strict=True)
    refuse_if_strict((), strict=True)
    refuse_if_strict(("a",), strict=False)
