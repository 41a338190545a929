"""What is wrong with a file is said in one line with a remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompiler.errors import ModelError, UnsupportedError
from qcompiler.load import load_model

TEXT = """
<ir_version: 10, opset_import: ["" : 21]>
agraph (float[N, 4] x) => (float[N, 4] y)
<float[4] w = {1.0, 2.0, 3.0, 4.0}>
{
    t = Mul(x, w)
    y = Relu(t)
}
"""


def _proto() -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(_proto(), path)
    return path


def _refused(source: Path | onnx.ModelProto, *words: str) -> None:
    with pytest.raises((ModelError, UnsupportedError)) as caught:
        load_model(source)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_path_gives_the_model(file: Path) -> None:
    model = load_model(file)
    assert [node.op_type for node in model.graph] == ["Mul", "Relu"]
    assert [node.op_type for node in load_model(str(file)).graph] == ["Mul", "Relu"]


def test_missing_path_names_what_is_there(file: Path) -> None:
    _refused(file.parent / "other.onnx", "No such file", f"check the path ({file.parent} holds model.onnx)")
    _refused(file.parent / "nowhere" / "other.onnx", "No such file", "check the path")


def test_directory_names_the_models_in_it(file: Path) -> None:
    _refused(file.parent, "is a directory", "model.onnx")


def test_native_code_is_no_graph(tmp_path: Path) -> None:
    (tmp_path / "model.qc.tvm").write_text("{}")
    for place in (tmp_path, tmp_path / "model.qc.tvm"):
        _refused(place, "compiled to native code", "the ONNX model that it was made from")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    _refused(tmp_path / "empty.onnx", "empty")


@pytest.mark.parametrize(
    "content", [b"PK\x03\x04 not a model", b"hello world\n", b"\x00" * 64, bytes(range(256))]
)
def test_not_a_protobuf(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "junk.onnx"
    path.write_bytes(content)
    _refused(path, "not an ONNX model")


def test_truncated_file(file: Path) -> None:
    content = file.read_bytes()
    for end in range(1, len(content), 3):
        file.write_bytes(content[:end])
        _refused(file)


def test_file_over_the_protobuf_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    with path.open("wb") as file:
        file.truncate(2**31)
    _refused(path, "external data")


@pytest.mark.parametrize("opset", [1, 6, 26, 99])
def test_opset_out_of_range(opset: int) -> None:
    proto = _proto()
    proto.opset_import[0].version = opset
    _refused(proto, f"opset {opset}", "7 to 25")


@pytest.mark.parametrize("version", [0, 2, 99])
def test_ir_version_out_of_range(version: int) -> None:
    proto = _proto()
    proto.ir_version = version
    _refused(proto, f"ir_version {version}")


def test_initializer_with_too_little_data() -> None:
    proto = _proto()
    proto.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.ones(3, np.float32), "w"))
    proto.graph.initializer[0].dims[0] = 4
    _refused(proto, "'w'", "12 bytes", "needs 16")


def test_initializer_of_unknown_type_or_negative_size() -> None:
    proto = _proto()
    proto.graph.initializer[0].data_type = 77
    _refused(proto, "'w'", "data type 77")
    proto = _proto()
    proto.graph.initializer[0].dims[0] = -4
    _refused(proto, "'w'", "negative")


def test_no_outputs() -> None:
    proto = _proto()
    proto.graph.ClearField("output")
    _refused(proto, "no outputs")


def test_string_tensors_and_sparse_initializers_are_taken() -> None:
    proto = _proto()
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(["a", "b"], dtype=object), "words"))
    values = onnx.numpy_helper.from_array(np.array([7.0], np.float32), "v")
    indices = onnx.numpy_helper.from_array(np.array([2], np.int64), "v_indices")
    proto.graph.sparse_initializer.append(onnx.helper.make_sparse_tensor(values, indices, [4]))
    proto.graph.node[0].input[1] = "v"
    model = load_model(proto)
    sparse = model.graph.initializers["v"].const_value
    assert sparse is not None
    assert sparse.numpy().tolist() == [0, 0, 7, 0]
    assert len(proto.graph.sparse_initializer) == 1, "the caller's model was changed"


def test_sparse_constant_is_taken() -> None:
    proto = _proto()
    values = onnx.numpy_helper.from_array(np.array([7.0], np.float32))
    indices = onnx.numpy_helper.from_array(np.array([[2]], np.int64))
    node = proto.graph.node.add(op_type="Constant", output=["v"])
    sparse = onnx.helper.make_sparse_tensor(values, indices, [4])
    node.attribute.append(onnx.helper.make_attribute("sparse_value", sparse))
    (constant,) = (node for node in load_model(proto).graph if node.op_type == "Constant")
    assert constant.attributes["value"].as_tensor().numpy().tolist() == [0, 0, 7, 0]


def test_models_in_memory_are_not_modified() -> None:
    proto = _proto()
    before = proto.SerializeToString()
    for value in list(load_model(proto).graph.initializers.values()):
        value.name = "renamed"
    assert proto.SerializeToString() == before

    source = ir.from_proto(proto)
    for value in list(load_model(source).graph.initializers.values()):
        value.name = "renamed"
    assert ir.to_proto(source).SerializeToString() == ir.to_proto(ir.from_proto(proto)).SerializeToString()
