"""Codes as ONNX tensors: the type that holds them, and packing that loses nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompiler.graph.low_bit_codes import code_tensor, container_of, integer_tensor
from qcompiler.numerics.formats.catalog import format_of

TYPES = (
    ("int4", None, 21, ir.DataType.UINT4),
    ("int4", True, 21, ir.DataType.INT4),
    ("int3", None, 21, ir.DataType.UINT4),
    ("int3", True, 25, ir.DataType.INT4),
    ("int2", None, 21, ir.DataType.UINT4),
    ("int2", None, 25, ir.DataType.UINT2),
    ("int2", True, 25, ir.DataType.INT2),
    ("ternary", None, 25, ir.DataType.INT2),
    ("int8", None, 21, ir.DataType.INT8),
    ("int8", False, 21, ir.DataType.UINT8),
    ("fp8", None, 21, ir.DataType.FLOAT8E4M3FN),
    ("nf4", None, 25, ir.DataType.UINT4),
    ("q6_k", None, 21, ir.DataType.INT8),
    ("q4_k", None, 21, ir.DataType.UINT4),
)


@pytest.mark.parametrize(("name", "symmetric", "opset", "dtype"), TYPES)
def test_every_code_stands_for_its_level(
    name: str, symmetric: bool | None, opset: int, dtype: ir.DataType
) -> None:
    stored = format_of(name, symmetric=symmetric)
    container = container_of(stored, opset)
    assert container.dtype == dtype
    codes = np.arange(len(stored.levels), dtype=np.uint8)[:, np.newaxis]
    read = code_tensor(codes, stored, container).numpy().astype(np.float32)[:, 0]
    levels = read if container.table is None else container.table[read.astype(int)]
    np.testing.assert_array_equal(levels, stored.levels)


@given(
    st.lists(st.integers(-2, 1), min_size=1, max_size=40),
    st.sampled_from([ir.DataType.INT2, ir.DataType.INT4, ir.DataType.INT8]),
)
def test_packing_loses_nothing(values: list[int], dtype: ir.DataType) -> None:
    array = np.array(values, np.int8)
    tensor = integer_tensor(array, dtype)
    assert tensor.nbytes == -(-len(values) * dtype.bitwidth // 8)
    np.testing.assert_array_equal(tensor.numpy().astype(np.int8), array)
    np.testing.assert_array_equal(
        ir.serde.deserialize_tensor(ir.serde.serialize_tensor(tensor)).numpy().astype(np.int8), array
    )
