"""Statistics taken segment by segment are those of the finished model before each node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qcompiler.backends.onnx.portable import Onnx
from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.calibration.statistics import Statistics
from qcompiler.data.feeds import FeedSource
from qcompiler.errors import OptionError
from qcompiler.pipeline.base import NodeDecision, Pass, PassContext, PassReport
from qcompiler.pipeline.journal import FolderJournal, Journal
from qcompiler.pipeline.run import Pipeline
from tests.qcompiler.sequential.networks import Array, feeds, residual_model
from tests.qcompiler.sequential.round_weights import RoundWeights, views

PRODUCTS = [f"MatMul_{kind}_{i}" for i in range(3) for kind in "qko"] + ["MatMul_logits"]


@dataclass(frozen=True)
class ScaleQueries(Pass):
    """Doubles the weights of q in scope: a transform that changes what the float model computes."""

    name: ClassVar[str] = "scale_queries"
    quantizes: ClassVar[bool] = False
    seen: list[str] = field(default_factory=list)

    def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
        decisions = []
        for view in views(context):
            if "_q_" in view.name and view.weight.const_value is not None:
                doubled = 2 * view.weight.const_value.numpy()
                view.weight.const_value = ir.tensor(doubled, name=view.weight.name)
                self.seen.append(view.name)
                decisions.append(NodeDecision(view.name, "MatMul", "transformed", "doubled"))
        return PassReport(self.name, tuple(decisions))


def pipeline(
    *passes: Pass,
    model: ir.Model | None = None,
    data: Sequence[Mapping[str, Array]] | None = None,
    journal: Journal | None = None,
    work: Path | None = None,
) -> Pipeline:
    model = model or residual_model()
    names = frozenset(str(node.name) for node in model.graph.all_nodes())
    given = feeds() if data is None else data
    source = cast(FeedSource, given)
    return Pipeline(model, passes, Onnx(), names, source, len(given), None, journal or Journal(), work)


def inputs_of_products(model: ir.Model) -> dict[str, npt.NDArray[Any]]:
    """Rows that each product reads, over all feeds: the slow, obvious reference."""
    model = model.clone()
    read = {str(node.name): node.inputs[0] for node in model.graph if node.op_type == "MatMul"}
    model.graph.outputs.clear()
    model.graph.outputs.extend(dict.fromkeys(value for value in read.values() if value is not None))
    session = open_model(model, session_options(threads=1, optimize=False))
    found = [session.run({name: feed[name] for name in session.input_names}) for feed in feeds()]
    return {
        name: np.concatenate(
            [run[str(value.name)].reshape(-1, run[str(value.name)].shape[-1]) for run in found]
        )
        for name, value in read.items()
        if value is not None
    }


def assert_close(found: npt.NDArray[Any], expected: npt.NDArray[Any], *, rtol: float, atol: float) -> None:
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def weights(model: ir.Model) -> dict[str, bytes]:
    return {
        name: value.const_value.tobytes()
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }


def test_each_node_sees_what_the_finished_part_before_it_gives() -> None:
    item = RoundWeights()
    model, (report,) = pipeline(item).run()
    assert list(item.solved) == PRODUCTS
    for name, rows in inputs_of_products(model).items():
        # float32 sums, fused otherwise and in another order.
        assert_close(item.solved[name]["importance"], np.mean(rows**2, axis=0), rtol=1e-4, atol=0)
    assert [decision.node for decision in report.nodes] == PRODUCTS


def test_all_at_once_each_node_sees_the_float_model() -> None:
    item = RoundWeights(in_order=False)
    pipeline(item).run()
    for name, rows in inputs_of_products(residual_model()).items():
        assert_close(item.solved[name]["importance"], np.mean(rows**2, axis=0), rtol=1e-4, atol=0)


def test_drift_is_what_rounding_before_a_node_changed() -> None:
    item = RoundWeights(drift=True)
    model, _ = pipeline(item).run()
    before, after = inputs_of_products(residual_model()), inputs_of_products(model)
    for name, rows in after.items():
        expected = (before[name] - rows).T @ rows / len(rows)
        scale = float(np.abs(rows).max()) ** 2
        # float32 products and sums over differences of rounded numbers.
        assert_close(item.solved[name]["drift"], expected, rtol=0, atol=1e-5 * scale)
    assert np.abs(item.solved["MatMul_logits"]["drift"]).max() > 1e-3


def test_drift_all_at_once_is_nothing() -> None:
    item = RoundWeights(drift=True, in_order=False)
    pipeline(item).run()
    assert not any(np.any(found["drift"]) for found in item.solved.values())


def test_transforms_are_no_drift() -> None:
    """The float model that a pass compares with has been through the transforms, but was never rounded."""
    scaling, item = ScaleQueries(), RoundWeights(drift=True, step=1e-30)
    _, (first, _) = pipeline(scaling, item).run()
    assert [decision.node for decision in first.nodes] == ["MatMul_q_0", "MatMul_q_1", "MatMul_q_2"]
    assert scaling.seen == [name for name in ("MatMul_q_0", "MatMul_q_1", "MatMul_q_2") for _ in range(2)]
    assert len(item.solved) == len(PRODUCTS)
    assert not any(np.any(found["drift"]) for found in item.solved.values())


def test_drift_behind_a_pass_that_quantizes_is_refused() -> None:
    early = replace(RoundWeights(in_order=False))
    object.__setattr__(early, "by_segment", False)
    with pytest.raises(OptionError, match="round_weights compares with the float model, but round_weights"):
        pipeline(early, RoundWeights(drift=True)).run()


def test_a_change_before_a_segment_is_noticed() -> None:
    """Tied weights: a change in a later segment reaches back, and what was kept no longer holds."""
    tied = residual_model()
    for node in tied.graph:
        if node.name == "MatMul_q_2":
            node.replace_input_with(1, tied.graph.initializers["wq_0"])
    item = RoundWeights()
    model, _ = pipeline(item, model=tied).run()
    rows = inputs_of_products(model)
    for name in ("MatMul_o_2", "MatMul_logits"):  # solved after the last change of the shared weight
        assert_close(item.solved[name]["importance"], np.mean(rows[name] ** 2, axis=0), rtol=1e-4, atol=0)


def test_a_pass_that_leaves_its_scope_is_a_defect() -> None:
    class Stray(RoundWeights):
        def apply(self, context: PassContext, statistics: Statistics) -> PassReport:
            return PassReport(self.name, (NodeDecision("elsewhere", "MatMul", "skipped", ""),))

    with pytest.raises(AssertionError, match="by_segment"):
        pipeline(Stray()).run()


@pytest.mark.parametrize("drift", [False, True])
@pytest.mark.parametrize("dies_at", ["MatMul_q_0", "MatMul_k_1", "MatMul_o_2", "MatMul_logits"])
def test_a_run_that_died_goes_on_where_it_stopped(tmp_path: Path, dies_at: str, *, drift: bool) -> None:
    whole, _ = pipeline(RoundWeights(drift=drift)).run()
    first = RoundWeights(drift=drift, dies_at=dies_at)
    with pytest.raises(KeyboardInterrupt):
        pipeline(first, journal=FolderJournal(tmp_path), work=tmp_path).run()
    second = RoundWeights(drift=drift)
    model, _ = pipeline(second, journal=FolderJournal(tmp_path), work=tmp_path).run()
    assert [*first.solved, *second.solved] == PRODUCTS
    assert weights(model) == weights(whole)
    assert not list(tmp_path.rglob("boundary*"))


def test_a_finished_run_needs_no_data_again(tmp_path: Path) -> None:
    whole, _ = pipeline(RoundWeights(), journal=FolderJournal(tmp_path), work=tmp_path).run()
    again, _ = pipeline(RoundWeights(dies_at="MatMul_q_0"), data=[], journal=FolderJournal(tmp_path)).run()
    assert weights(again) == weights(whole)


def test_nodes_put_back_to_float_are_built_again_without_data() -> None:
    made = pipeline(RoundWeights())
    whole, _ = made.run()
    made.feeds = None
    assert weights(made.run(frozenset({"MatMul_q_1"}))[0]) == weights(
        whole
    )  # this pass looks at no selection
