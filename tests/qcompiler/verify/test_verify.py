"""The three comparisons on a small network: good ones pass, planted defects are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.data.feeds import Feed
from qcompiler.errors import CalibrationError
from qcompiler.verify.metrics import EXACT_DB
from qcompiler.verify.observed import OptimizedModel
from qcompiler.verify.verify import Limits, Verification, verify_model

Deploy = Callable[..., Path]


def verify(
    reference: ir.Model, dialect: ir.Model, path: Path, feeds: list[Feed], **limits: float
) -> Verification:
    return verify_model(reference, dialect, path, feeds, OrtCpu(), limits=Limits(**limits))


def test_a_good_model_passes(
    reference: ir.Model, dialect: ir.Model, deployed: Deploy, feeds: list[Feed]
) -> None:
    found = verify(reference, dialect, deployed(), feeds)
    assert found.failures == ()
    assert found.samples == 3
    quantized = found.quantization.by_value()
    # 8 bits of a range of about 6 sigma: step = 6 sigma / 255, noise = step^2 / 12, which is 43 dB for one
    # rounding; three layers and residuals add up to a few of them.
    assert 25 < quantized["sum"].sqnr_db < 50
    assert quantized["sum"].node == "/sum"
    assert quantized["y"].cosine > 0.99


def test_lowering_is_seen_inside_the_fused_graph(
    reference: ir.Model, dialect: ir.Model, deployed: Deploy, feeds: list[Feed]
) -> None:
    """The runtime fuses Conv with its Q and DQ: the codes that are left are compared."""
    found = verify(reference, dialect, deployed(), feeds).lowering
    seen = {item.value: item for item in found.nodes}
    assert {"active", "sum", "third"} <= set(seen)
    # Rounding costs 1/12 step^2 in each of some 4,000 elements, about 40 dB here; a flipped code costs one step^2.
    # 50 dB leaves room for about thirty flips, and an error in a kernel would be far below it.
    assert min(item.sqnr_db for item in seen.values()) > 50
    assert all(item.reason for item in found.unobserved)


@pytest.mark.parametrize(
    ("constant", "value", "node"),
    [
        ("w1_scale", "active", "/first"),
        ("w2_scale", "second", "/second"),
        ("w3_scale", "third", "/third"),
        ("w4_scale", "y", "/y"),
    ],
)
def test_a_wrong_scale_in_the_lowered_model_is_named(
    reference: ir.Model,
    dialect: ir.Model,
    deployed: Deploy,
    feeds: list[Feed],
    constant: str,
    value: str,
    node: str,
) -> None:
    """Off by 10 %: the error has a hundredth of the signal's energy, 20 dB, far above quantization's."""
    failures = verify(reference, dialect, deployed(constant, 1.1), feeds).failures
    assert len(failures) == 1, "what follows from the first error is not repeated"
    assert repr(value) in failures[0]
    assert f"--exclude {node!r}" in failures[0]


def test_a_wrong_activation_scale_is_named(
    reference: ir.Model, dialect: ir.Model, deployed: Deploy, feeds: list[Feed]
) -> None:
    failures = verify(reference, dialect, deployed("x_scale", 0.5), feeds).failures
    assert "'x'" in failures[0], "half the scale clips the input: its codes differ first"


def test_low_cosine_names_output_and_node(
    reference: ir.Model, dialect: ir.Model, deployed: Deploy, feeds: list[Feed]
) -> None:
    failures = verify(reference, dialect, deployed(), feeds, min_cosine=1.0).failures
    assert len(failures) == 1
    assert "output 'y' has cosine 0.99" in failures[0]
    assert "--exclude '/" in failures[0]


def test_labels_are_compared_by_their_share(
    reference: ir.Model, dialect: ir.Model, deployed: Deploy, feeds: list[Feed]
) -> None:
    found = verify(reference, dialect, deployed("w4_scale", -1.0), feeds)
    label = {item.value: item for item in found.deployed.outputs}["label"]
    assert not label.is_float
    assert label.exact_share < 0.9
    assert any("output 'label' agrees with float in" in failure for failure in found.failures)


def test_nan_in_the_dialect_fails(
    reference: ir.Model, dialect: ir.Model, deployed: Deploy, feeds: list[Feed]
) -> None:
    scale = dialect.graph.initializers["w4_scale"]
    assert scale.const_value is not None
    scale.const_value = ir.tensor(np.full_like(scale.const_value.numpy(), np.nan), name="w4_scale")
    failures = verify(reference, dialect, deployed(), feeds).failures
    assert failures[0].startswith("quantization makes NaN or infinity: 'y' (MatMul '/y')")


def test_memory_groups_change_nothing(
    reference: ir.Model, dialect: ir.Model, deployed: Deploy, feeds: list[Feed]
) -> None:
    whole = verify_model(reference, dialect, deployed(), feeds, OrtCpu())
    one_at_a_time = verify_model(reference, dialect, deployed(), iter(feeds), OrtCpu(), group_bytes=1)
    assert one_at_a_time == whole


def test_the_graph_of_the_runtime_is_opened_once(
    reference: ir.Model,
    dialect: ir.Model,
    deployed: Deploy,
    feeds: list[Feed],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What tells which values are floats also reads them: opening a large model takes long."""
    opened: list[int] = []
    open_graph = OptimizedModel._open

    def counted(self: OptimizedModel, model: ir.Model) -> object:
        opened.append(len(model.graph.outputs))
        return open_graph(self, model)

    monkeypatch.setattr(OptimizedModel, "_open", counted)
    assert verify(reference, dialect, deployed(), feeds).passed
    assert len(opened) == 1


def test_unquantized_model_is_exact(reference: ir.Model, feeds: list[Feed], tmp_path: Path) -> None:
    path = tmp_path / "same.onnx"
    ir.save(reference, path)
    found = verify(reference, reference, path, feeds)
    assert found.failures == ()
    assert {item.sqnr_db for item in found.quantization.nodes} == {EXACT_DB}
    # Fused and blocked float kernels add up in another order: rounding of float32, 1e-7 relative.
    assert all(item.sqnr_db > 120 for item in found.lowering.outputs if item.is_float)


def test_no_data_is_an_error(reference: ir.Model, dialect: ir.Model, deployed: Deploy) -> None:
    with pytest.raises(CalibrationError, match="no sample"):
        verify(reference, dialect, deployed(), [])
