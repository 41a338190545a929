"""Which passes a search measures, by what counts, what data there is and what the target runs."""

from __future__ import annotations

import pytest

from qcompiler.auto.problem.candidates import BY_BITS, Wanted, candidate_words
from qcompiler.auto.problem.choices import pass_of, rounded_words
from qcompiler.backends.onnx.portable import Onnx
from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.numerics.formats.base import Search
from qcompiler.passes.weight_only import WeightOnly
from tests.passes.graphs import normal

FEW_BITS = Wanted(has_data=True, bits=True, fast=False)


def words(wanted: Wanted) -> list[str]:
    return list(candidate_words(OrtCpu(), wanted))


def test_bits_ask_for_few_bits_with_a_solver() -> None:
    narrow = [each for each in words(FEW_BITS) if not each.startswith("int8_")]
    assert {each.partition(":")[0] for each in narrow} == {
        "q6_k",
        "q5_k",
        "int4",
        "q3_k",
        "int3",
        "q2_k",
        "int2",
    }
    assert all("solver=gptq:sequential=false" in each for each in narrow)


@pytest.mark.parametrize("rows", [128, 4096])
def test_more_bits_cost_less_error(rows: int) -> None:
    """Each format has fewer bits and a larger rounding error of normal weights than the one before it."""
    weights = normal(rows, 16)
    found = []
    for each in BY_BITS:
        item = pass_of(each)
        assert isinstance(item, WeightOnly)
        grid = item.stored.fit(weights, search=Search.MSE)
        error = item.stored.decode(item.stored.encode(weights, grid), grid) - weights
        found.append((item.stored.bits_per_weight(rows, 4096), float((error**2).mean())))
    bits, errors = zip(*found, strict=True)
    assert list(bits) == sorted(bits, reverse=True)
    assert list(errors) == sorted(errors)


def test_tables_of_levels_are_for_targets_that_store_their_codes() -> None:
    for wanted in (FEW_BITS, Wanted(has_data=True)):
        assert any(each.startswith("nf4") for each in candidate_words(Onnx(), wanted))
        assert not any(each.startswith("nf4") for each in candidate_words(OrtCpu(), wanted))


def test_bytes_ask_for_no_codes_that_take_more_in_the_file() -> None:
    """MatMulNBits has codes of 2, 4 and 8 bits, and those of 2 in groups of 32 and more."""
    found = [each for each in words(Wanted(has_data=True)) if not each.startswith("int8_")]
    assert {each.partition(":")[0] for each in found} == {"int8", "int4", "int2"}
    assert not any("group=16" in each for each in found)
    packed = list(candidate_words(OrtCpu(packed=True), Wanted(has_data=True)))
    assert any(each.startswith("int3:") for each in packed)


def test_speed_asks_for_codes_first_and_for_nothing_below_four_bits() -> None:
    found = words(Wanted(has_data=True, small=False))
    assert found[0] == "int8_static"
    assert not any("int2" in each or "int3" in each for each in found)


def test_without_data_nothing_is_observed() -> None:
    assert not any("gptq" in each or "static" in each for each in words(Wanted(has_data=False)))


def test_a_k_quant_is_rounded_for_its_bytes_without_a_search() -> None:
    assert rounded_words("q3_k:solver=gptq:sequential=false") == "q3_k:solver=rtn"
