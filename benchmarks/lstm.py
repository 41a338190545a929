"""From which size on is ONNX Runtime's DynamicQuantizeLSTM faster than its float LSTM, and how exact is it?

    python -m benchmarks.lstm [--hidden 64,128,256,512] [--seconds 4] [--gain 1] [--scale 1]

Weights are drawn as PyTorch initializes an LSTM, times ``--gain``; inputs are normal, times ``--scale``.  Every row
times three models of one layer in the same rounds: float, int8 weights with one scale per gate row, int8 weights with
one scale for the tensor.  The last columns are SQNRs of Y in decibels, with scales per gate row: float against the
dialect (weights and input rounded), the dialect against the kernel (which also rounds the hidden state), and float
against the kernel.
"""

from __future__ import annotations

import argparse
import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from qcompiler.measure.latency import measure_latency, speed_ratio
from qcompiler.measure.sessions import session_runner, timing_session
from qcompiler.numerics.weights import quantize_weight

Floats = npt.NDArray[np.float32]
MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class Layer:
    """Weights of one forward LSTM, ``w [1, 4H, I]``, ``r [1, 4H, H]``, ``b [1, 8H]``."""

    w: Floats
    r: Floats
    b: Floats

    @classmethod
    def drawn(cls, hidden: int, gain: float) -> Layer:
        """Weights as PyTorch draws them times ``gain``, input as wide as the hidden state."""
        generator = np.random.default_rng(hidden)
        bound = gain * hidden**-0.5
        shapes = ((1, 4 * hidden, hidden), (1, 4 * hidden, hidden), (1, 8 * hidden))
        return cls(*(generator.uniform(-bound, bound, shape).astype(np.float32) for shape in shapes))

    @property
    def hidden(self) -> int:
        return int(self.r.shape[2])

    def float_model(self) -> bytes:
        return _model("", "LSTM", self.hidden, {"W": self.w, "R": self.r, "B": self.b}, [])

    def weights_only_model(self) -> bytes:
        (w, w_scale), (r, r_scale) = (quantize_weight(array, 1, 127) for array in (self.w, self.r))
        rounded = Layer(w * w_scale[:, None], r * r_scale[:, None], self.b)
        return rounded.float_model()

    def integer_model(self, axis: int | None) -> bytes:
        """``DynamicQuantizeLSTM`` with weight scales per gate row (axis 1) or per tensor (None)."""
        arrays: dict[str, npt.NDArray[np.generic]] = {}
        parameters: dict[str, npt.NDArray[np.generic]] = {}
        for name, weight in (("W", self.w), ("R", self.r)):
            codes, scale = quantize_weight(weight, axis, 127)
            scale = scale.reshape(1, -1) if axis is not None else scale.reshape(1)
            arrays[name] = np.ascontiguousarray(codes.transpose(0, 2, 1))
            parameters |= {f"{name}_scale": scale, f"{name}_zero_point": np.zeros(scale.shape, np.int8)}
        arrays["B"] = self.b
        return _model(MICROSOFT, "DynamicQuantizeLSTM", self.hidden, arrays | parameters, ["", "", "", ""])


def _model(
    domain: str, op: str, hidden: int, arrays: dict[str, npt.NDArray[np.generic]], gap: list[str]
) -> bytes:
    """One node: X, W, R, B, then unused inputs, then scales and zero points."""
    x = ir.Value(name="X", shape=ir.Shape(["S", "N", hidden]), type=ir.TensorType(ir.DataType.FLOAT))
    constants = [
        ir.Value(name=name, const_value=ir.tensor(array, name=name)) for name, array in arrays.items()
    ]
    inputs = [x, *constants[:3], *[None for _ in gap], *constants[3:]]
    node = ir.node(op, inputs, {"hidden_size": hidden}, domain=domain)
    y = node.outputs[0]
    y.name, y.type = "Y", ir.TensorType(ir.DataType.FLOAT)
    opsets = {"": 21, MICROSOFT: 1}
    graph = ir.Graph([x], [y], nodes=[node], initializers=constants, opset_imports=opsets, name="lstm")
    content: bytes = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    return content


def compare(layer: Layer, x: Floats, seconds: float) -> str:
    """One row of the table."""
    models = {
        "float": layer.float_model(),
        "row": layer.integer_model(1),
        "tensor": layer.integer_model(None),
    }
    sessions = {name: timing_session(model) for name, model in models.items()}
    timed = {name: session_runner(session, [{"X": x}]) for name, session in sessions.items()}
    stats = measure_latency(timed, max_seconds=seconds)
    ratios = [speed_ratio(stats["float"], stats[name]).median for name in ("row", "tensor")]
    exact, kernel = (sessions[name].run(["Y"], {"X": x})[0] for name in ("float", "row"))
    dialect = timing_session(layer.weights_only_model()).run(["Y"], {"X": rounded(x)})[0]
    noise = [sqnr_db(exact, dialect), sqnr_db(dialect, kernel), sqnr_db(exact, kernel)]
    cells = [*map(str, (layer.hidden, *x.shape[:2])), f"{stats['float'].median_ms:.3f}"]
    cells += [f"{ratio:.2f}x" for ratio in ratios] + [f"{value:.1f}" for value in noise]
    return f"| {' | '.join(cells)} |"


def rounded(x: Floats) -> Floats:
    """DynamicQuantizeLinear and back."""
    low, high = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    scale = np.float32((high - low) / 255)
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return np.asarray((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale, np.float32)


def sqnr_db(expected: Floats, seen: Floats) -> float:
    """Signal to noise in decibels."""
    noise = float(np.sum((expected - seen).astype(np.float64) ** 2))
    return float(10 * np.log10(float(np.sum(expected.astype(np.float64) ** 2)) / noise))


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lstm")
    parser.add_argument("--hidden", default="64,128,256,512")
    parser.add_argument("--seconds", type=float, default=4.0, help="time budget of a row")
    parser.add_argument("--gain", type=float, default=1.0, help="factor on the weights")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the input")
    arguments = parser.parse_args()
    columns = "hidden | sequence | batch | float ms | per row | per tensor | quantization | lowering | total"
    print(f"| {columns} |")
    print("|---" * 9 + "|")
    for hidden, sequence, batch in itertools.product(
        map(int, arguments.hidden.split(",")), (1, 8, 64), (1, 8)
    ):
        layer = Layer.drawn(hidden, arguments.gain)
        x = np.random.default_rng(0).standard_normal((sequence, batch, hidden)) * arguments.scale
        print(compare(layer, x.astype(np.float32), arguments.seconds), flush=True)


if __name__ == "__main__":
    main()
