"""What tables lose where products behind them are solved for it, on the repository's language model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from qcompiler.auto.bounds import settle
from qcompiler.auto.builds import Builds
from qcompiler.auto.compensation import compensated
from qcompiler.auto.facts import Bounds, Estimates
from qcompiler.auto.judge import Judge
from qcompiler.auto.metrics.metric import open_metric
from qcompiler.auto.opened import open_request, working
from qcompiler.auto.problem import candidates
from qcompiler.auto.tables import Measured
from qcompiler.auto.variants import Variant
from qcompiler.data.options import DataOptions
from qcompiler.models.catalog import PYDOC_LM

GPTAQ = Variant(solver="gptaq")
BITS = Bounds(max_bits=3.5)
TARGET = "ort-cpu:size_first=true"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builds]:
    """A search that has only q6_k and q3_k, on short windows."""
    with np.load(PYDOC_LM.calibration) as data:
        ids = {"input_ids": data["input_ids"][:16, :64]}
    path = tmp_path_factory.mktemp("compensation") / "m.onnx"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(candidates, "BY_BITS", ("q6_k", "q3_k"))
        asked = open_request(PYDOC_LM.onnx, ids, TARGET, ((), ()), path, None, None, BITS)
        with working(asked, None, ["kl"]) as found:
            yield found


@pytest.fixture(scope="module")
def judge(bench: Builds) -> Judge:
    metric = open_metric("kl", bench.reference, bench.samples.held_out, None, DataOptions(), None)
    return Judge.of(bench, metric)


def named(bench: Builds, start: str) -> str:
    return next(choice.name for choice in bench.problem.choices if choice.name.startswith(start))


@pytest.fixture(scope="module")
def measured(bench: Builds, judge: Judge) -> Measured:
    """The loss of the table alone as it is; every product as if it lost 0.001."""
    problem, q3 = bench.problem, named(bench, "q3_k")
    table = next(group.name for group in problem.groups if group.op_type == "Gather")
    loss = np.where(problem.allowed, 0.001, np.nan)
    loss[:, 0] = 0.0
    rows = [group.name for group in problem.groups]
    loss[rows.index(table), problem.choice(q3)] = judge.surrogate({table: q3}, Variant())
    still = np.zeros_like(loss)
    uniform = judge.judge_once("uniform", lambda: bench.build(problem.uniform(q3)).path)
    return Measured(Estimates(still, still, loss), {q3: uniform})


def test_what_products_make_good_is_not_lost(bench: Builds, judge: Judge, measured: Measured) -> None:
    found, variant, said = compensated(bench, judge, settle(BITS, "kl"), measured)
    assert variant == GPTAQ
    assert len(said) == 3
    tables = np.array([group.op_type == "Gather" for group in bench.problem.groups])
    before, after = measured.estimates.loss, found.estimates.loss
    np.testing.assert_array_equal(before[~tables], after[~tables])
    at = bench.problem.choice(named(bench, "q3_k"))
    # more than half of what the table alone loses is made good; where it is not, the case says nothing
    assert 0 < after[tables, at] < 0.5 * before[tables, at]


def test_a_search_for_speed_compares_no_solvers(bench: Builds, judge: Judge, measured: Measured) -> None:
    settled = settle(replace(BITS, prefer="speed"), "kl")
    assert compensated(bench, judge, settled, measured) == (measured, bench.variant, [])


def test_codes_that_depend_on_others_are_not_shared(bench: Builds, judge: Judge) -> None:
    """gptaq's codes behind an exact table are not those behind a coarse one, whatever was built before."""
    problem, fine, coarse = bench.problem, named(bench, "q6_k"), named(bench, "q3_k")
    table = next(group.name for group in problem.groups if group.op_type == "Gather")
    behind_coarse = judge.surrogate({**problem.uniform(fine), table: coarse}, GPTAQ)
    behind_fine = judge.surrogate(problem.uniform(fine), GPTAQ)
    assert behind_fine < behind_coarse
