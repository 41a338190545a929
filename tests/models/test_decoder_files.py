"""What the export does to weights and files, without torch: headers, tied tables, weights in half precision."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import pytest

from qcompiler.backends.onnxruntime.session import open_model, session_options
from qcompiler.errors import ModelError
from qcompiler.models.checkpoint_files import check_weights
from qcompiler.models.stored_type import store_half
from qcompiler.models.tied_weights import tie

Array = npt.NDArray[np.generic]
VOCABULARY, WIDTH = 40, 32


def safetensors(entries: dict[str, tuple[str, list[int], int]]) -> bytes:
    """Name -> (dtype, shape, bytes)."""
    header, offset = {}, 0
    for name, (dtype, shape, size) in entries.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return len(text).to_bytes(8, "little") + text + bytes(offset)


def test_most_elements_name_the_stored_type(tmp_path: Path) -> None:
    content = safetensors(
        {"norm": ("F32", [4], 16), "weight": ("BF16", [4, 4], 32), "ids": ("I64", [99], 792)}
    )
    (tmp_path / "model.safetensors").write_bytes(content)
    assert check_weights(tmp_path) == "bfloat16"


def test_a_checkpoint_without_safetensors_says_no_type(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    assert check_weights(tmp_path) is None


@pytest.mark.parametrize("cut", [0, 4, 20, -1])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, cut: int) -> None:
    whole = safetensors({"weight": ("F32", [4, 4], 64)})
    (tmp_path / "model.safetensors").write_bytes(whole[:cut])
    with pytest.raises(ModelError, match="its weights cannot be loaded"):
        check_weights(tmp_path)


def test_an_index_of_missing_shards_is_refused(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    (tmp_path / "one.safetensors").write_bytes(safetensors({"a": ("F32", [1], 4)}))
    with pytest.raises(ModelError, match=r"1 of 2 weight files are missing \(two.safetensors\)"):
        check_weights(tmp_path)
    index.write_text("[]")
    with pytest.raises(ModelError, match="not a readable index"):
        check_weights(tmp_path)


def language_model(table: Array, head: Array) -> ir.Model:
    model = ir.from_onnx_text(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        main (int64[n] ids, float[{VOCABULARY}, {WIDTH}] table, float[{WIDTH}, {VOCABULARY}] head)
          => (float[n, {VOCABULARY}] logits)
        {{
           rows = Gather (table, ids)
           logits = MatMul (rows, head)
        }}"""
    )
    for name, array in (("table", table), ("head", head)):
        value = next(value for value in model.graph.inputs if value.name == name)
        model.graph.inputs.remove(value)
        value.const_value = ir.tensor(array, name=name)
        model.graph.register_initializer(value)
    return model


def run(model: ir.Model) -> Array:
    return open_model(model, session_options(threads=1)).run({"ids": np.arange(5)})["logits"]


def test_a_transposed_copy_of_the_table_becomes_the_table() -> None:
    table = np.random.default_rng(0).normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
    model = language_model(table, np.ascontiguousarray(table.T))
    before = run(model)
    assert tie(model) == 1
    assert list(model.graph.initializers) == ["table"]
    np.testing.assert_array_equal(run(model), before)  # the same product of the same numbers
    assert tie(model) == 0


def test_a_head_of_its_own_stays() -> None:
    table, head = np.random.default_rng(0).normal(size=(2, VOCABULARY, WIDTH)).astype(np.float32)
    model = language_model(table, np.ascontiguousarray(head.T))
    assert tie(model) == 0
    assert set(model.graph.initializers) == {"table", "head"}


def test_only_what_half_holds_exactly_is_narrowed() -> None:
    generator = np.random.default_rng(0)
    table = generator.normal(size=(VOCABULARY, WIDTH)).astype(np.float16).astype(np.float32)
    head = generator.normal(size=(WIDTH, VOCABULARY)).astype(np.float32)
    model = language_model(table, head)
    before = run(model)
    assert store_half(model) == "float16"
    types = {name: value.dtype for name, value in model.graph.initializers.items()}
    assert types == {"table": ir.DataType.FLOAT16, "head": ir.DataType.FLOAT}
    np.testing.assert_array_equal(run(model), before)  # widening is exact
