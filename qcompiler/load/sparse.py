"""Sparse initializers and constants become ordinary ones: ONNX Runtime does the same when it loads them."""

from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper

from qcompiler.errors import ModelError, UnsupportedError
from qcompiler.load.contents import all_graphs, all_nodes, describe

LARGEST_DENSE_BYTES = 2**31


def densify(where: str, model: onnx.ModelProto) -> None:
    """Replace every sparse initializer and every sparse value of a Constant node in place.

    Raises:
        ModelError: indices that do not fit values and shape.
        UnsupportedError: a dense form of more than 2 GB.
    """
    for graph in all_graphs(model):
        for sparse in graph.sparse_initializer:
            graph.initializer.append(_dense(f"{where}: sparse initializer {sparse.values.name!r}", sparse))
        graph.ClearField("sparse_initializer")
    for node in all_nodes(model):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "sparse_value":
                value = _dense(f"{where}: sparse value of {describe(node)}", attribute.sparse_tensor)
                attribute.CopyFrom(onnx.helper.make_attribute("value", value))


def _dense(at: str, sparse: onnx.SparseTensorProto) -> onnx.TensorProto:
    values = numpy_helper.to_array(sparse.values)
    indices = numpy_helper.to_array(sparse.indices)
    shape = tuple(sparse.dims)
    if math.prod(shape) * values.itemsize > LARGEST_DENSE_BYTES:
        raise UnsupportedError(
            f"{at}: its dense form of shape {list(shape)} is over 2 GB; prune the model less"
        )
    linear = indices if indices.ndim == 1 else np.ravel_multi_index(tuple(indices.T), shape)
    if values.ndim != 1 or linear.shape != values.shape or np.any(linear < 0):
        raise ModelError(f"{at}: indices {indices.shape} do not fit values {values.shape}; export it again")
    dense = np.zeros(math.prod(shape), dtype=values.dtype)
    dense[linear] = values
    return numpy_helper.from_array(dense.reshape(shape), name=sparse.values.name)
