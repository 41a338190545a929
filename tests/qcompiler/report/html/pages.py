"""Made-up pages: as many nodes as asked for, with names that would be markup, script or a formula elsewhere."""

from __future__ import annotations

from typing import Literal

import numpy as np

from qcompiler.auto.facts import Bounds
from qcompiler.report.facts import Hint, SpeedFacts, ValueFacts
from qcompiler.report.html.page import BytesPart, FrontRow, NodeRow, Page, Spread, State, Times
from tests.qcompiler.report.samples import found

HOSTILE = (
    "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>",
    '"><img src=x onerror="window.hacked = 3">',
    "{{ 7 * 191 }}<b>bold</b>&amp;",
    "</table><a href='javascript:window.hacked=4'>x</a>",
)
"""Names of nodes; in ``page`` the first ones."""

STATES: tuple[State, ...] = ("integer", "stored", "float")


def row(place: int, name: str = "") -> NodeRow:
    """A node whose figures follow from its place; every third is float and has none of its own."""
    state = STATES[place % 3]
    is_float = state == "float"
    return NodeRow(
        place=place,
        name=name or f"/model/layers.{place}/mlp/down_proj/MatMul",
        op_type="Conv" if place % 2 else "MatMul",
        state=state,
        format="float32" if is_float else f"int{(8, 4, 3)[place % 3]} g32 asymmetric",
        solver="" if is_float else "gptq",
        bits=None if is_float else 4.0 + place / 100,
        size_before_bytes=40 * place,
        size_after_bytes=5 * place,
        alone_db=None if is_float else 30.0 + place % 7,
        gathered_db=200.0 if place == 1 else 20.0 + (place * 37) % 11,
        kernel="" if is_float else "MatMulNBits",
        before_us=None if place % 5 == 0 else 3.0 * place,
        after_us=None if place % 5 == 0 else 2.0 * place,
        reason="excluded by the user" if is_float else "",
        alternatives=("int8: 3.0 kB less, loss 0.0071 more",) if place == 5 else (),
    )


def spread(index: int, kind: Literal["weight", "activation"], name: str = "") -> Spread:
    counts = tuple(int(count) for count in np.random.default_rng(index).integers(0, 9999, 64))
    clip = None if kind == "activation" and index % 2 else 1.5
    return Spread(
        kind=kind,
        name=name or f"layers.{index}.weight",
        node=f"node {index}",
        low=-2.0,
        high=2.0 + index,
        counts=counts,
        clip_low=None if clip is None else -clip,
        clip_high=clip,
        clipped_share=None if clip is None else 0.01,
        sqnr_db=33.0,
        outliers=index % 3,
    )


def output(name: str = "logits", comparison: str = "deployed", sqnr_db: float = 24.5) -> ValueFacts:
    return ValueFacts(comparison, name, "head", "MatMul", sqnr_db, 0.9981, 0.25, 0.0, is_float=True)


def page(nodes: int = 9, *, hostile: bool = True, front: bool = True) -> Page:
    """A page about ``nodes`` nodes."""
    names = (*HOSTILE[:nodes], *[""] * (nodes - len(HOSTILE))) if hostile else ("",) * nodes
    rows = tuple(row(place, name) for place, name in enumerate(names, 1))
    points = [
        FrontRow(
            f"front {index}", "front", 1e6 * index, 2.0 / index, 0.1 / index, index == 2, chosen=index == 2
        )
        for index in range(1, 5)
    ]
    others = [
        FrontRow("int8 everywhere", "uniform", 4.2e6, 0.9, 0.04, measured=True, chosen=False),
        FrontRow("float", "float", 16e6, 3.0, 0.0, measured=True, chosen=False),
    ]
    return Page(
        model="model <float>.onnx",
        result="out/model.qc.onnx",
        target="ort-cpu:isa=vnni",
        pipeline="smoothquant:alpha=0.6,int4:group=32:solver=gptq",
        made="2026-11-21 20:00 UTC by qcompiler 0.1.0 on x86_64",
        size_before_bytes=16_000_000,
        size_after_bytes=sum(item.size_after_bytes or 0 for item in rows) + 1000,
        parameters=4_000_000,
        requested_bits=4.0,
        achieved_bits=4.71,
        quantized_bits=4.63,
        speed=SpeedFacts(1.7, 1.6, 1.8, 12.0, 7.0, 1),
        timed_feeds=4,
        untimed="",
        data="held out: 8 samples",
        outputs=(output(), output(comparison="lowering", sqnr_db=61.0)),
        verdict=(),
        warnings=("calibrated on <random> numbers",),
        findings=(Hint("Softmax <stays> in float"),),
        hints=(Hint("put smoothquant first", "qcompile 'model <float>.onnx' --passes smoothquant,int4"),),
        nodes=rows,
        left_out={},
        bytes=(
            *(BytesPart(item.format, item.name, item.size_after_bytes or 0) for item in rows),
            BytesPart("graph and metadata", "", 1000),
        ),
        spreads=tuple(
            spread(index, kind, HOSTILE[1] if hostile and not index else "")
            for kind in ("weight", "activation")
            for index in range(nodes)
        ),
        times=Times(1000.0, 700.0, 20.0, 30.0),
        search=found(Bounds(max_drop=0.05, max_size_bytes=30_000_000)) if front else None,
        front=(*points, *others) if front else (),
        unknown=("Time of each node: nobody knows.",),
        command="qcompile 'model <float>.onnx' --passes smoothquant,int4",
        recipe="passes:\n- int4\n",
        manifest='{"versions": {}}',
    )
