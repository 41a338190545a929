"""A spooled tensor is the tensor, and holds nothing."""

from __future__ import annotations

import gc
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from qcompiler.errors import OutputError
from qcompiler.measure.probe import resident_bytes
from qcompiler.tensors import SPOOLED_BYTES, kept, spooling

LARGE = SPOOLED_BYTES + 2


def random_codes(dtype: ir.DataType) -> np.ndarray:
    codes = np.random.default_rng(0).integers(0, 4, size=(2, 2 * LARGE + 1))
    return codes.astype(dtype.numpy())


@pytest.mark.parametrize(
    "dtype",
    [
        ir.DataType.FLOAT,
        ir.DataType.FLOAT16,
        ir.DataType.BFLOAT16,
        ir.DataType.FLOAT8E4M3FN,
        ir.DataType.INT8,
        ir.DataType.UINT8,
        ir.DataType.INT4,
        ir.DataType.UINT4,
        ir.DataType.UINT2,
    ],
)
def test_what_is_read_back_is_what_was_kept(dtype: ir.DataType, tmp_path: Path) -> None:
    array = random_codes(dtype)
    tensor = ir.tensor(array, name="x")
    with spooling(tmp_path):
        first, second = kept(tensor), kept(ir.tensor(array[:, ::-1].copy(), name="y"))
    assert isinstance(first, ir.LazyTensor)
    for spooled, expected in ((first, array), (second, array[:, ::-1])):
        assert spooled.numpy().dtype == array.dtype
        assert np.array_equal(spooled.numpy().view(np.uint8), np.ascontiguousarray(expected).view(np.uint8))
    assert first.tobytes() == tensor.tobytes()
    assert (first.name, first.dtype, first.nbytes) == ("x", dtype, tensor.nbytes)


def test_packed_codes_stay_packed(tmp_path: Path) -> None:
    packed = np.random.default_rng(0).integers(0, 256, size=LARGE, dtype=np.uint8)
    tensor = ir.PackedTensor(packed, ir.DataType.UINT4, shape=ir.Shape([LARGE, 2]))
    with spooling(tmp_path):
        spooled = kept(tensor)
    assert spooled is not tensor
    assert spooled.tobytes() == packed.tobytes()
    assert spooled.numpy().dtype == ml_dtypes.uint4


def test_small_tensors_and_those_outside_stay_in_memory(tmp_path: Path) -> None:
    small, large = ir.tensor(np.zeros(4, np.float32)), ir.tensor(np.zeros(LARGE, np.int8))
    with spooling(tmp_path):
        assert kept(small) is small
        spooled = kept(large)
        assert kept(spooled) is spooled
    assert kept(large) is large


def test_a_spool_leaves_no_file_and_outlives_its_context(tmp_path: Path) -> None:
    with spooling(tmp_path / "not" / "made"):
        spooled = kept(ir.tensor(np.arange(LARGE, dtype=np.int32)))
        assert list(tmp_path.iterdir()) == []
    assert spooled.numpy()[-1] == LARGE - 1


def test_reading_a_spooled_tensor_leaves_nothing_resident(tmp_path: Path) -> None:
    size = 64 << 20
    with spooling(tmp_path):
        spooled = kept(ir.tensor(np.ones(size, np.int8)))
    gc.collect()
    before = resident_bytes()
    assert spooled.numpy().sum(dtype=np.int64) == size
    # A quarter of the tensor: far below keeping its pages, far above what the interpreter adds by itself.
    assert resident_bytes() - before < size // 4


def test_a_disk_that_cannot_be_written_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("qcompiler.tensors.spool._write", full)
    with spooling(tmp_path), pytest.raises(OutputError, match="No space left"):
        kept(ir.tensor(np.zeros(LARGE, np.int8)))
