"""Times of kernels by node, and beside those of ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import qcompiler
from benchmarks.llama_graph import Shape, build
from qcompiler.measure.beside import Beside, KernelPair, comparable, kernels_beside
from tests.backends.tvm.kernels.running import needs_tvm
from tests.backends.tvm.test_decoder import empty, feed

pytestmark = [needs_tvm, pytest.mark.tvm]

SHAPE = Shape(layers=2, hidden=64, inner=96, heads=4, kv_heads=2, vocabulary=128, context=64)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One graph in int4 for both."""
    return {
        name: qcompiler.compile(
            build(SHAPE),
            "int4:group=32",
            target=target,
            output=tmp_path_factory.mktemp(name),
            options=qcompiler.CompileOptions(verify="none"),
        ).path
        for name, target in (("ort", "ort-cpu"), ("tvm", "tvm-cpu:host_only=true"))
    }


def test_every_kernel_has_a_time_and_its_node(paths: dict[str, Path]) -> None:
    from qcompiler.backends.tvm.loader import read_index
    from qcompiler.backends.tvm.profile import profile_kernels

    times = profile_kernels(paths["tvm"], feed(np.zeros((1, 3), np.int64), empty(1)), runs=3)
    nodes = read_index(paths["tvm"])["kernels"]
    assert nodes.items() <= {name: item.op_type for name, item in times.items()}.items()
    others = {name for name in times if name not in nodes}
    assert {"attention", "norm"} <= others
    assert not any(name.startswith("vm.") for name in others)
    for name in nodes:
        assert len(times[name].runs_us) == 3
        # Nothing that computes is faster than the shortest call, which takes memory or drops it.
        assert min(times[name].runs_us) > 0


def test_products_stand_beside_the_same_products(paths: dict[str, Path]) -> None:
    found = kernels_beside(paths["ort"], paths["tvm"], feed(np.zeros((1, 1), np.int64), empty(1)))
    products = {pair.node for pair in found.pairs if pair.library_op == "GemmLowBit"}
    assert {"lm_head/MatMul", "model.layers.1.mlp.down_proj/MatMul"} <= products
    assert all(pair.runtime_us > 0 and pair.library_us > 0 for pair in found.pairs)
    assert found.rest.runtime_us > 0


def test_losses_come_largest_first() -> None:
    pairs = [
        KernelPair(name, "A", "B", before, after)
        for name, before, after in (("a", 10, 13), ("b", 100, 150), ("c", 9, 3))
    ]
    found = Beside(tuple(pairs), KernelPair("everything else", "", "", 100, 104))
    assert [pair.node for pair in found.slower] == ["b", "a"]


def test_only_a_library_behind_a_model_is_compared(paths: dict[str, Path]) -> None:
    assert comparable(paths["ort"], paths["tvm"])
    assert not comparable(paths["tvm"], paths["ort"])
    assert not comparable(paths["ort"], paths["ort"])


def test_bench_says_which_kernels_are_slower(paths: dict[str, Path]) -> None:
    from qcompiler.cli.app import app

    files = [str(paths["ort"].parent), str(paths["tvm"].parent)]
    done = CliRunner().invoke(app, ["bench", *files, "--no-memory", "--rounds", "3", "--seconds", "1"])
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "slower than its node in" in text or "slower than their nodes in" in text
