"""Running a model before and after preparation on the same random feeds."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from qcompiler.load import load_model
from qcompiler.prepare import PrepareReport, prepare

Array = npt.NDArray[Any]
Feeds = dict[str, Array]


def run(model: onnx.ModelProto, feeds: Feeds) -> list[Array]:
    """Return the outputs of ``model`` on ONNX Runtime without its graph optimizations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    outputs: list[Array] = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    ).run(None, feeds)
    return outputs


def check_equivalent(
    source: onnx.ModelProto, feeds: Feeds, *, opset: int = 21
) -> tuple[ir.Model, PrepareReport]:
    """Prepare ``source`` and check that outputs agree, the signature is kept, and a second time changes nothing.

    Tolerance: 1e-4 relative to the largest output, since folding batch norms reorders float32 sums.
    """
    model = load_model(source)
    report = prepare(model, opset=opset)
    prepared = ir.to_proto(model)
    onnx.checker.check_model(prepared)
    inputs = {value.name: value.type for value in source.graph.input}
    for name in report.inputs_dropped:
        del inputs[name]
    assert {value.name: value.type for value in prepared.graph.input} == inputs
    for old, new in zip(source.graph.output, prepared.graph.output, strict=True):
        if not old.type.tensor_type.HasField("shape"):
            new = onnx.helper.make_tensor_value_info(new.name, new.type.tensor_type.elem_type, None)
        assert new == old
    for before, after in zip(run(source, feeds), run(prepared, feeds), strict=True):
        assert before.dtype == after.dtype
        assert before.shape == after.shape
        largest = np.abs(before).max(initial=1e-6)
        np.testing.assert_allclose(after, before, rtol=0, atol=1e-4 * largest)
    again = prepare(model, opset=opset)
    assert again.nodes_after == report.nodes_after
    assert (
        again.nodes_folded + again.constants_lifted + again.batchnorms_folded + again.identities_removed == 0
    )
    assert ir.to_proto(model).SerializeToString(deterministic=True) == prepared.SerializeToString(
        deterministic=True
    )
    return model, report


def op_types(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph.all_nodes()]
