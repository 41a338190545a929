"""Which passes a search measures, by what counts, what data there is and what the target runs."""

from __future__ import annotations

from qcompiler.auto.candidates import Wanted, candidate_words
from qcompiler.backends.onnxruntime.cpu import OrtCpu


def words(wanted: Wanted) -> list[str]:
    return list(candidate_words(OrtCpu(), wanted))


def test_bits_ask_for_few_bits_with_a_solver() -> None:
    narrow = [
        each for each in words(Wanted(has_data=True, bits=True, fast=False)) if not each.startswith("int8_")
    ]
    assert {each.partition(":")[0] for each in narrow} == {"int8", "int4", "int3", "int2"}
    assert all("solver=gptq:sequential=false" in each for each in narrow)


def test_speed_asks_for_codes_first_and_for_nothing_below_four_bits() -> None:
    found = words(Wanted(has_data=True, small=False))
    assert found[0] == "int8_static"
    assert not any("int2" in each or "int3" in each for each in found)


def test_without_data_nothing_is_observed() -> None:
    assert not any("gptq" in each or "static" in each for each in words(Wanted(has_data=False)))
