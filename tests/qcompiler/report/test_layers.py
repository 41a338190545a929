"""A decoder's cache is one line for all layers, with the figures of the worst."""

from __future__ import annotations

from qcompiler.report.facts import ValueFacts
from qcompiler.report.layers import FEW, by_layer


def output(name: str, sqnr_db: float) -> ValueFacts:
    return ValueFacts("deployed", name, "", "", sqnr_db, 0.99, 0.1, 0.0, is_float=True)


def test_layers_become_one_line_with_the_worst_figures() -> None:
    cache = [
        output(f"present.{layer}.{part}", 30.0 - layer) for layer in range(12) for part in ("key", "value")
    ]
    rows = by_layer([output("logits", 20.0), *cache])
    assert [(name, item.sqnr_db) for name, item in rows] == [
        ("logits", 20.0),
        ("present.*.key, worst of 12", 19.0),
        ("present.*.value, worst of 12", 19.0),
    ]


def test_few_of_a_kind_and_numbers_in_words_stay_apart() -> None:
    few = [output(f"boxes.{index}", 20.0) for index in range(FEW)]
    heads = [output(name, 20.0) for name in ("fc1", "fc2", "fc3", "fc4", "fc5")]
    assert [name for name, _ in by_layer([*few, *heads])] == [item.value for item in (*few, *heads)]
