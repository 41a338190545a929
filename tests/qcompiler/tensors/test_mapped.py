"""A mapped tensor reads what the file holds, and holds nothing."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.measure.probe import resident_bytes
from qcompiler.tensors import mapped


def external(folder: Path, array: np.ndarray, offset: int = 3) -> ir.ExternalTensor:
    (folder / "data").write_bytes(b"\0" * offset + array.tobytes())
    dtype = ir.DataType.from_numpy(array.dtype)
    return ir.ExternalTensor(
        "data", offset, array.nbytes, dtype, shape=ir.Shape(array.shape), name="w", base_dir=folder
    )


def test_it_reads_the_same_as_the_tensor_it_stands_for(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    tensor = mapped(external(tmp_path, array))
    assert np.array_equal(tensor.numpy(), array)
    assert tensor.tobytes() == array.tobytes()
    assert (tensor.name, tensor.dtype, tuple(tensor.shape)) == ("w", ir.DataType.FLOAT, (5, 7))


def test_an_array_outlives_other_reads(tmp_path: Path) -> None:
    tensor = mapped(external(tmp_path, np.arange(6, dtype=np.int8)))
    first = tensor.numpy()
    assert tensor.numpy().sum() == 15
    gc.collect()
    assert first.tolist() == [0, 1, 2, 3, 4, 5]


def test_a_location_outside_the_folder_is_refused_at_the_read(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    outside = external(tmp_path, np.zeros(4, np.int8))
    escaping = ir.ExternalTensor(
        "../data", 0, 4, outside.dtype, shape=outside.shape, name="w", base_dir=tmp_path / "inside"
    )
    with pytest.raises(ValueError, match="outside"):
        mapped(escaping).numpy()


def test_reading_leaves_nothing_resident(tmp_path: Path) -> None:
    size = 64 << 20
    tensor = mapped(external(tmp_path, np.ones(size, np.int8), offset=0))
    gc.collect()
    before = resident_bytes()
    assert tensor.numpy().sum(dtype=np.int64) == size
    # A quarter of the tensor: far below keeping its pages, far above what the interpreter adds by itself.
    assert resident_bytes() - before < size // 4
