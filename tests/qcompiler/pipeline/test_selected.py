"""Passes with nodes of their own: each serves its nodes, the same pass may come twice, and the report says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qcompiler.driver import compile as compile_model
from qcompiler.errors import OptionError
from qcompiler.passes.integers import Int4
from qcompiler.pipeline.selected import UNSELECTED, Selected, key_of
from qcompiler.request import CompileOptions
from qcompiler.result import CompileResult
from tests.passes.graphs import graph, normal

NUMERICS = CompileOptions(verify="numerics", min_cosine=-1.0)
Data = dict[str, npt.NDArray[np.float32]]


@pytest.fixture(scope="module")
def model() -> ir.Model:
    """q and k read x, o reads what both make, down reads o: three levels in one segment."""
    made = graph(
        """
        <ir_version: 10, opset_import: ["" : 21]>
        net (float[N, 64] x) => (float[N, 64] y)
        {
            q = MatMul (x, wq)
            k = MatMul (x, wk)
            both = Mul (q, k)
            o = MatMul (both, wo)
            active = Relu (o)
            mixed = Add (active, q)
            y = MatMul (mixed, wd)
        }
        """,
        {name: normal(64, 64, seed=at, scale=0.1) for at, name in enumerate(("wq", "wk", "wo", "wd"))},
    )
    for name, node in zip("qkod", (node for node in made.graph if node.op_type == "MatMul"), strict=True):
        node.name = f"/{name}"
    return made


@pytest.fixture(scope="module")
def data() -> Data:
    return {"x": normal(64, 64, seed=9)}


def actions(result: CompileResult) -> dict[str, str]:
    return {item.node: item.action for report in result.passes for item in report.nodes}


def test_the_same_pass_serves_disjoint_nodes_with_other_options(model: ir.Model, tmp_path: Path) -> None:
    passes = [
        Selected(Int4(group=32), include=("/q",)),
        Selected(Int4(group=64), include=("/[ko]",), exclude=("/o",)),
        Selected(Int4(group=16), include=("/d",)),
    ]
    result = compile_model(model, passes, target="onnx", output=tmp_path, options=NUMERICS)
    assert actions(result) == {"/q": "quantized", "/k": "quantized", "/o": "skipped", "/d": "quantized"}
    skipped = [item for report in result.passes for item in report.nodes if item.action == "skipped"]
    assert [(item.node, item.detail) for item in skipped] == [("/o", UNSELECTED)]
    sizes = [
        node.attributes["block_size"].as_int()
        for node in ir.load(result.path).graph
        if node.op_type == "DequantizeLinear" and "block_size" in node.attributes
    ]
    assert sorted(sizes) == [16, 32]  # one group of 64 rows is all of a column
    manifest = json.loads(result.manifest_path.read_text())
    assert [item["include"] for item in manifest["pipeline"]] == [["/q"], ["/[ko]"], ["/d"]]
    assert [item["exclude"] for item in manifest["pipeline"]] == [[], ["/o"], []]
    decided = {item["name"]: item["decisions"]["int4"].partition(":")[0] for item in manifest["nodes"]}
    assert decided == actions(result)


def test_the_nodes_of_a_pass_are_among_those_of_the_request(model: ir.Model, tmp_path: Path) -> None:
    result = compile_model(
        model, [Selected(Int4(), ("/*",))], exclude="/q", output=tmp_path, options=NUMERICS
    )
    assert actions(result) == {"/q": "skipped", "/k": "quantized", "/o": "quantized", "/d": "quantized"}


@pytest.mark.parametrize("options", ["solver: gptq", "solver: gptq, sequential: false", "solver: gptaq"])
def test_parted_among_passes_nodes_get_the_codes_that_one_pass_gives(
    model: ir.Model, data: Data, tmp_path: Path, options: str
) -> None:
    """In whatever order passes come: by segment they take stages in turn, at once they see the float model."""
    words = "int4:" + options.replace(", ", ":").replace(": ", "=")
    whole = compile_model(
        model, words, target="onnx", calibration=data, output=tmp_path / "a", options=NUMERICS
    )
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"target: onnx\npasses:\n  - int4: {{{options}, include: [/o, /k]}}\n"
        f"  - int4: {{{options}, include: [/d, /q]}}\n"
    )
    parted = compile_model(model, recipe=recipe, calibration=data, output=tmp_path / "b", options=NUMERICS)
    expected, found = constants(whole.path), constants(parted.path)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(array, found[name], err_msg=name)


def constants(path: Path) -> dict[str, npt.NDArray[Any]]:
    values = ir.load(path).graph.initializers.items()
    return {
        name: value.const_value.numpy()
        for name, value in values
        if value.const_value is not None and "order" not in name
    }


def test_a_glob_of_a_pass_that_matches_no_node_is_an_error(model: ir.Model, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"pass int4: include '/w' matches no node"):
        compile_model(model, [Selected(Int4(), ("/w",))], output=tmp_path)
    with pytest.raises(OptionError, match=r"pass int4: exclude 'op:Conv' matches no node"):
        compile_model(model, [Selected(Int4(), (), ("op:Conv",))], output=tmp_path)


def test_other_nodes_of_a_pass_make_another_compile() -> None:
    """What a killed compile has left is not taken up by one whose passes have other nodes."""
    assert key_of([Selected(Int4())]) == {}
    assert key_of([Selected(Int4(), ("a",))]) != key_of([Selected(Int4(), (), ("a",))])
