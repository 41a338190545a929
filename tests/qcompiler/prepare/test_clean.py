"""What nothing uses goes, and what only goes with it."""

from __future__ import annotations

import onnx_ir as ir

from qcompiler.calibration.tapgraph import keep_outputs
from qcompiler.prepare.clean import remove_unused

BRANCHES = """
<ir_version: 10, opset_import: ["" : 21]>
net (float[N] x, bool c) => (float[N] y, float[N] z)
{
    z = Abs (x)
    before = Neg (x)
    read = Relu (before)
    y = If (c) <
        then_branch = one () => (float[N] t) { t = Exp (read) },
        else_branch = two () => (float[N] e) { e = Sqrt (read) }
    >
}
"""


def model() -> ir.Model:
    return ir.from_onnx_text(BRANCHES)


def test_what_only_a_branch_read_goes_with_the_branch() -> None:
    found = model()
    del found.graph.outputs[0]
    # If, the nodes of its branches, and the two before it that nothing else reads.
    assert remove_unused(found) == 5
    assert [node.op_type for node in found.graph] == ["Abs"]


def test_outputs_keep_only_what_they_need() -> None:
    found = model()
    keep_outputs(found, [node.outputs[0] for node in found.graph if node.op_type == "Abs"])
    assert [node.op_type for node in found.graph] == ["Abs"]


def test_what_a_branch_reads_stays_with_the_branch() -> None:
    found = model()
    assert remove_unused(found) == 0
    assert [node.op_type for node in found.graph] == ["Abs", "Neg", "Relu", "If"]
