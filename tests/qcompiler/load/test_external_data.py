"""External data is mapped, never copied, and never read from outside the model's folder."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompiler.errors import ModelError
from qcompiler.load import load_model


def _save(folder: Path, location: str, dims: list[int], **entries: str) -> Path:
    """Write a model whose only weight lies in ``location``; the data file is the caller's to make."""
    proto = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[N, 4] x) => (float[N, 4] y) { y = MatMul(x, w) }'
    )
    weight = onnx.TensorProto(name="w", data_type=onnx.TensorProto.FLOAT, dims=dims)
    weight.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=value)
    proto.graph.initializer.append(weight)
    path = folder / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def _refused(path: Path, *words: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(path)
    for word in ("'w'", *words):
        assert word in str(caught.value)


def test_weight_is_mapped(tmp_path: Path) -> None:
    path = _save(tmp_path, "model.data", [4, 100], offset="64", length="1600")
    (tmp_path / "model.data").write_bytes(bytes(64) + np.arange(400, dtype=np.float32).tobytes())
    model = load_model(path)
    tensor = model.graph.initializers["w"].const_value
    assert isinstance(tensor, ir.LazyTensor)  # mapped while it is read
    assert isinstance(tensor.raw(), ir.ExternalTensor)
    assert tensor.numpy().tolist() == np.arange(400).reshape(4, 100).tolist()
    again = load_model(model).graph.initializers["w"].const_value
    assert isinstance(again, ir.LazyTensor)
    assert again is not tensor


def test_small_tensors_are_read(tmp_path: Path) -> None:
    path = _save(tmp_path, "model.data", [4, 4])
    (tmp_path / "model.data").write_bytes(np.ones(16, np.float32).tobytes())
    assert isinstance(load_model(path).graph.initializers["w"].const_value, ir.Tensor)


def test_relative_path_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(tmp_path, "model.data", [4, 4])
    (tmp_path / "model.data").write_bytes(np.ones(16, np.float32).tobytes())
    monkeypatch.chdir(tmp_path)
    tensor = load_model("model.onnx").graph.initializers["w"].const_value
    assert tensor is not None
    assert tensor.numpy().sum() == 16


def test_over_two_gigabytes_without_reading(tmp_path: Path) -> None:
    path = _save(tmp_path, "model.data", [4, 2**28])
    with (tmp_path / "model.data").open("wb") as file:
        file.truncate(2**32)  # sparse: no space on disk
    tensor = load_model(path).graph.initializers["w"].const_value
    assert tensor is not None
    assert tensor.nbytes == 2**32
    assert tensor.numpy()[3, -1] == 0


def test_missing_and_short(tmp_path: Path) -> None:
    path = _save(tmp_path, "model.data", [4, 4], offset="8")
    _refused(path, "model.data", "No such file")
    (tmp_path / "model.data").write_bytes(bytes(64))
    _refused(path, "too short", "bytes 8 to 72", "it has 64")


@pytest.mark.parametrize(
    "entries", [{"offset": "-4"}, {"offset": "x"}, {"length": "-1"}, {"offset": str(2**70)}]
)
def test_numbers_that_are_none(tmp_path: Path, entries: dict[str, str]) -> None:
    _refused(_save(tmp_path, "model.data", [4, 4], **entries), *entries)


def test_length_that_does_not_fit_the_shape(tmp_path: Path) -> None:
    (tmp_path / "model.data").write_bytes(bytes(64))
    _refused(_save(tmp_path, "model.data", [4, 4], length="60"), "length 60", "64 bytes")


def test_path_that_leaves_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(64))
    os.symlink(secret, folder / "link.data")
    (folder / "hard.data").hardlink_to(secret)
    for location in ("../secret", str(secret), "link.data", "a/../../secret"):
        _refused(_save(folder, location, [4, 4]), "leaves the model's folder")
    _refused(_save(folder, "hard.data", [4, 4]), "hard links")
    _refused(_save(folder, ".", [4, 4]), "not a regular file")


def test_model_in_memory_has_no_folder(tmp_path: Path) -> None:
    proto = onnx.ModelProto()
    proto.ParseFromString(_save(tmp_path, "model.data", [4, 4]).read_bytes())
    with pytest.raises(ModelError, match=r"path of the .onnx file"):
        load_model(proto)
