"""What a compile is estimated to take, and what is refused for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.budget import parse_size, refuse_over_budget, stage_bytes, within
from qcompiler.calibration import grams
from qcompiler.driver import compile as compile_model
from qcompiler.errors import OptionError, UnsupportedError
from qcompiler.models.catalog import DIGITS
from qcompiler.pipeline.parse import parse_passes
from qcompiler.request import CompileOptions

GB = 1_000_000_000
WEIGHTS = 64
INT8, GPTQ = parse_passes("int8_dynamic"), parse_passes("int4:solver=gptq")


def model_of(size_bytes: int) -> ir.Model:
    """A model that claims to hold so many bytes of float32 in equal weights."""
    shape = ir.Shape((size_bytes // 4 // WEIGHTS,))
    values = []
    for index in range(WEIGHTS):
        tensor = ir.LazyTensor(lambda: ir.tensor(np.zeros(0, np.float32)), ir.DataType.FLOAT, shape)
        values.append(ir.Value(name=f"w{index}", const_value=tensor))
    return ir.Model(ir.Graph([], [], nodes=[], initializers=values), ir_version=10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4G", 4 * GB), ("4gb", 4 * GB), ("1.5 GB", GB * 3 // 2), ("500M", 500_000_000), ("64kB", 64_000),
        ("1GiB", 1 << 30), ("2KiB", 2048), ("1.5MiB", 3 << 19), ("1T", 1000 * GB), ("123", 123), (" 7B ", 7),
        ("1e6", 1_000_000), ("3E+7", 30_000_000), ("30MiB", 30 << 20), ("0.5GB", GB // 2),
    ],
)  # fmt: skip
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "G", "4X", "-1G", "0", "4 GG", "1e-3", "nan", "inf", "4Gi"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="expected a number and a unit"):
        parse_size(text)


def test_stages() -> None:
    model = model_of(4 << 30)
    assert set(stage_bytes(model, INT8, "none", GB)) == {"passes and lowering"}
    assert set(stage_bytes(model, GPTQ, "speed", GB)) == {
        "passes and lowering",
        "calibration",
        "solving",
        "verification",
    }


def test_solving_grows_with_the_square_of_the_summed_axis() -> None:
    def needed(rows: int, columns: int) -> int:
        tensor = ir.LazyTensor(
            lambda: ir.tensor(np.zeros(0, np.float32)), ir.DataType.FLOAT, ir.Shape((rows, columns))
        )
        weight = ir.Value(name="w", const_value=tensor, type=ir.TensorType(tensor.dtype))
        x = ir.Value(name="x", shape=ir.Shape(("n", rows)), type=ir.TensorType(tensor.dtype))
        node = ir.node("MatMul", [x, weight])
        graph = ir.Graph([x], node.outputs, nodes=[node], initializers=[weight], opset_imports={"": 21})
        return stage_bytes(ir.Model(graph, ir_version=10), GPTQ, "none", GB)["solving"]

    # The widest matrix of an 8-billion-parameter Llama: four float64 matrices of 14,336 squared are 6.6 GB alone.
    assert needed(14336, 4096) > 6.6 * GB
    assert needed(14336, 4096) - needed(2048, 28672) > 6 * GB  # as many weights, fewer inputs


@pytest.mark.parametrize(
    ("limit", "remedy"), [(8 * GB, "--verify numerics fits"), (GB // 4, "give at least --max-ram")]
)
def test_what_is_over_the_limit_is_refused_with_a_remedy(limit: int, remedy: str) -> None:
    with pytest.raises(UnsupportedError, match=remedy):
        refuse_over_budget(model_of(4 << 30), INT8, "speed", limit)


def test_within_the_limit_nothing_is_refused() -> None:
    refuse_over_budget(model_of(4 << 30), INT8, "speed", 100 * GB)
    refuse_over_budget(model_of(4 << 40), INT8, "speed", None)


def test_statistics_take_a_share() -> None:
    assert grams._BUDGET.get() == grams.GRAM_BYTES
    with within(1 * GB):
        assert grams._BUDGET.get() == GB // 8
    with within(100 * GB):
        assert grams._BUDGET.get() == grams.GRAM_BYTES
    with within(None):
        assert grams._BUDGET.get() == grams.GRAM_BYTES
    assert grams._BUDGET.get() == grams.GRAM_BYTES


def test_a_compile_within_its_limit_gives_the_same_bytes(tmp_path: Path) -> None:
    paths = [
        compile_model(
            DIGITS.onnx,
            "gptq",
            calibration=DIGITS.calibration,
            output=tmp_path / str(limit),
            options=CompileOptions(verify="none", max_ram_bytes=limit),
        ).path
        for limit in (None, 3 * GB)
    ]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_driver_refuses_before_it_writes(tmp_path: Path) -> None:
    options = CompileOptions(max_ram_bytes=1000)
    with pytest.raises(UnsupportedError, match="max-ram is 0 MB"):
        compile_model(DIGITS.onnx, "int8_dynamic", output=tmp_path / "out", options=options)
    assert not list(tmp_path.iterdir())
    with pytest.raises(OptionError, match="max_ram_bytes"):
        CompileOptions(max_ram_bytes=0)
