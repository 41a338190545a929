"""Kernels that round activations pass, and wrong ones do not, on whichever side of an If they stand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.backends.base import Lowering
from qcompiler.backends.onnxruntime.cpu import OrtCpu
from qcompiler.calibration.statistics import Statistics
from qcompiler.graph.hadamard import rotated
from qcompiler.graph.low_bit import store_low_bit
from qcompiler.graph.weighted import weighted_nodes
from qcompiler.numerics.formats.catalog import format_of
from qcompiler.passes.int8_dynamic import Int8Dynamic
from qcompiler.pipeline.base import PassContext
from qcompiler.verify.comparison import Comparison, NodeComparison
from qcompiler.verify.rounding import REDRAWN_DB, quantization_costs, rounding_limits
from qcompiler.verify.verify import Verification, verify_model

K, N = 256, 512
FEW_ROWS = [
    {"x": np.random.default_rng(seed).standard_normal((3, K)).astype(np.float32)} for seed in range(2)
]
Damage = Callable[[ir.Model], None]


def _float_model() -> ir.Model:
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["": 21]> g (float[rows,{K}] x) => (float[rows,{K}] y) '
        "{ a = MatMul (x, x) b = Relu (a) y = MatMul (b, b) }"
    )
    rng = np.random.default_rng(0)
    for index, (node, shape) in enumerate(((model.graph[0], (K, N)), (model.graph[2], (N, K)))):
        node.name = f"product{index}"
        weight = (rng.standard_normal(shape) / shape[0] ** 0.5).astype(np.float32)
        value = ir.Value(name=f"w{index}", const_value=ir.tensor(weight, name=f"w{index}"))
        value.shape, value.type = ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
        model.graph.register_initializer(value)
        node.replace_input_with(1, value)
    return model


def _verified(folder: Path, bits: int, damage: Damage | None = None) -> Verification:
    reference = _float_model()
    dialect = reference.clone()
    stored = format_of(f"int{bits}", group=32, symmetric=False)
    for view in list(weighted_nodes(dialect)):
        grid = stored.fit(view.matrix())
        store_low_bit(dialect, view, stored, stored.encode(view.matrix(), grid), grid)
    deployed, target = dialect.clone(), OrtCpu(prefill_rows=8)
    lowered = target.legalize(deployed).lowered
    assert {item.kernel for item in lowered} == {"If(MatMulNBits, DynamicQuantizeMatMul)"}
    if damage is not None:
        damage(deployed)
    ir.save(deployed, folder / "deployed.onnx")
    found = verify_model(reference, dialect, folder / "deployed.onnx", FEW_ROWS, target, lowered=lowered)
    assert [path.name for path in folder.iterdir()] == ["deployed.onnx"]
    return found


def _change(model: ir.Model, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    (value,) = (value for key, value in model.graph.initializers.items() if key == name)
    assert value.const_value is not None
    value.const_value = ir.tensor(change(value.const_value.numpy()), name=name)


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_of_activations_passes(tmp_path: Path, bits: int) -> None:
    assert _verified(tmp_path, bits).failures == ()


DAMAGES = {
    "swapped nibbles": ("w0_blocks", lambda b: (b >> 4) | (b << 4)),
    "zero points one too large": ("w0_block_zero_points", lambda z: z + np.uint8(0x11)),
    "scales of the next group": ("w0_block_scales_half", lambda s: np.roll(s, 1, axis=1)),
    "columns of the next output": ("w0_columns", lambda c: np.roll(c, 1, axis=1)),
}


@pytest.mark.parametrize(("name", "change"), DAMAGES.values(), ids=DAMAGES)
def test_wrong_kernels_are_caught(
    tmp_path: Path, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    failures = _verified(tmp_path, 4, lambda model: _change(model, name, change)).failures
    assert any("'product0'" in failure for failure in failures), failures


def test_limits_add_up_as_noise_does() -> None:
    limits = rounding_limits(
        _float_model(),
        [Lowering("product0", "k", rounding_db=30.0), Lowering("product1", "k", rounding_db=30.0)],
    )
    assert limits["a"] == limits["b"] == pytest.approx(30.0)  # exact but for float64 logarithms
    assert limits["y"] == pytest.approx(30.0 - 10 * np.log10(2))  # twice the noise
    assert rounding_limits(_float_model(), [Lowering("product0", "k")]) == {}


def test_values_that_float_does_not_have_are_worth_what_they_are_made_of() -> None:
    """b here: a rotated activation, say, of one that quantization costs more than the output."""
    known = [NodeComparison(name, "", "", db, 1.0, 0.0, 0.0) for name, db in (("a", 20.0), ("y", 30.0))]
    compared = Comparison((known[0],), (known[1],), 1)
    assert quantization_costs(_float_model(), compared, 30.0) == {"a": 20.0, "b": 20.0, "y": 30.0}
    assert quantization_costs(_float_model(), Comparison((), (), 1), 30.0)["b"] == 30.0


def test_codes_behind_a_rotation_may_fall_to_either_side() -> None:
    model = _float_model()
    turned = rotated(model, model.graph[0].outputs[0], 16, origin="product0")
    next(node for node in model.graph if node.op_type == "Relu").replace_input_with(0, turned)
    known = [NodeComparison(name, "", "", 20.0, 1.0, 0.0, 0.0) for name in ("a", "b", "y")]
    found = quantization_costs(model, Comparison(tuple(known), (), 1), 30.0)
    lowered = 20.0 - REDRAWN_DB
    assert found == {"a": 20.0, "a_rotated": lowered, "b": lowered, "y": lowered}


def test_codes_of_activations_behind_a_kernel_that_rounds_may_fall_to_either_side() -> None:
    model = _float_model()
    relu = model.graph[1]
    Int8Dynamic().apply(PassContext(model, model, frozenset({"product1"}), OrtCpu()), Statistics({}))
    known = [NodeComparison(name, "", "", 20.0, 1.0, 0.0, 0.0) for name in ("a", "b", "y")]
    compared = Comparison(tuple(known), (), 1)
    rounded = rounding_limits(model, [Lowering("product0", "k", rounding_db=40.0)])
    found = quantization_costs(model, compared, 30.0, rounded)
    assert relu.outputs[0].name == "b"
    assert (found["a"], found["b"], found["y"]) == (20.0, 20.0, 20.0 - REDRAWN_DB)
    assert quantization_costs(model, compared, 30.0)["y"] == 20.0  # nothing rounds before it
