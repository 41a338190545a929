"""Loop and Scan bodies are prepared like the graph around them."""

from __future__ import annotations

import numpy as np
import onnx

from tests.qcompiler.prepare.running import check_equivalent, op_types

X = np.random.default_rng(8).standard_normal((1, 2, 4, 4)).astype(np.float32)


def test_loop_body() -> None:
    """Constants, a batch norm, an Identity that gives an output its name, and an old Unsqueeze inside a Loop."""
    proto = onnx.parser.parse_model(
        """
        <ir_version: 7, opset_import: ["" : 12]>
        g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y, float[S, A, B, C, D, E] all)
        <float[2, 2, 1, 1] w = {1.0, 2.0, 3.0, 4.0}, float[2] one = {1.0, 0.5}, float[2] zero = {0.0, 0.1}>
        {
            trips = Constant <value = int64 {3}> ()
            go = Constant <value = bool {1}> ()
            [loop] y, all = Loop (trips, go, x) <body = b (int64 i, bool c, float[1, 2, 4, 4] s) =>
                (bool c_out, float[1, 2, 4, 4] s_out, float[A, B, C, D, E] scan)
            {
                c_out = Identity (c)
                [conv] t = Conv (s, w)
                [norm] n = BatchNormalization (t, one, zero, zero, one)
                half = Constant <value = float {0.5}> ()
                h = Mul (n, half)
                s_out = Identity (h)
                scan = Unsqueeze <axes = [0]> (h)
            }>
        }
        """
    )
    model, report = check_equivalent(proto, {"x": X})
    assert report.batchnorms_folded == 2, "the batch norm, and the Mul behind it"
    assert op_types(model) == ["Loop", "Identity", "Conv", "Unsqueeze"]
    assert {"loop", "conv"} < {node.name for node in model.graph.all_nodes()}


def test_scan_body() -> None:
    proto = onnx.parser.parse_model(
        """
        <ir_version: 8, opset_import: ["" : 17]>
        g (float[2] start, float[5, 2] x) => (float[2] last, float[5, 2] sums)
        {
            last, sums = Scan <num_scan_inputs = 1, body = b (float[2] s, float[2] e) => (float[2] s_out, float[2] o)
            {
                k = Constant <value = float[2] {2.0, 3.0}> ()
                two = Add (k, k)
                m = Mul (e, two)
                s_out = Add (s, m)
                o = Identity (s_out)
            }> (start, x)
        }
        """
    )
    feeds = {"start": np.ones(2, np.float32), "x": X.reshape(-1)[:10].reshape(5, 2)}
    model, report = check_equivalent(proto, feeds)
    assert report.constants_lifted == 1
    assert op_types(model) == ["Scan", "Mul", "Add", "Identity"]


def test_an_input_that_is_an_output() -> None:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y, float[2] x) { y = Relu (x) }'
    )
    model, _ = check_equivalent(proto, {"x": np.ones(2, np.float32)})
    assert [value.name for value in model.graph.outputs] == ["y", "x"]
